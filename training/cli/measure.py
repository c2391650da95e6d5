"""The commands of `anomoe-train` that measure a run on pictures: evaluate and calibrate."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.progress import Progress
from rich.table import Table

from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint, rows_json, rows_table
from training.anomalymoe.evaluation.protocol import Normalisation, Protocol, View
from training.anomalymoe.products import add_products
from training.cli.options import (
    ALL_GOOD_NAMES,
    DataPaths,
    GoodOption,
    console,
    fail,
    one_or_all,
    progress_bar,
    read_dataset,
    read_protocol,
    read_requirement,
)
from training.data.dataset import Place
from training.data.folders import taken_for_good
from training.data.pictures import DataError
from training.moeclip import evaluation as by_class
from training.moeclip.calibration import add_classes
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Domain
from training.reporting.reference import Method, find_dataset
from training.reporting.rows import Row
from training.reporting.tables import paper_table
from training.runs.files import CheckpointError, read_method, write_text

RunPath = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the run.")]
DomainOption = Annotated[
    Domain, typer.Option(help="moeclip: medical pictures have softer maps, and scores from the map alone.")
]


class Measured(NamedTuple):
    """The figures of a run, as tables and as JSON."""

    rows: list[Row]
    tables: list[Table]
    json: str


def add_measuring(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, calibrate):
        app.command()(command)


def evaluate(  # noqa: PLR0913 - one an option
    checkpoint: RunPath,
    data: DataPaths,
    *,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON too.")] = None,
    beside: Annotated[
        str | None, typer.Option(help="Name of a data set in the paper: show its figures beside ours.")
    ] = None,
    require: Annotated[list[str] | None, typer.Option(help="GROUP:METRIC=LEAST, may be repeated.")] = None,
    protocol: Annotated[
        View, typer.Option(help="full: pictures as served; paper: 448 pixels cropped to 392 (7/8).")
    ] = "full",
    masks: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Component masks; needs --normalise test-minmax."),
    ] = None,
    normalise: Annotated[
        Normalisation,
        typer.Option(
            help="calibrated: as served; test-minmax: by each level's minimum and maximum over the test set, "
            "which no service knows: for reproducing papers only."
        ),
    ] = "calibrated",
    domain: DomainOption = "industrial",
    good: GoodOption = ALL_GOOD_NAMES,
) -> None:
    """Measure a checkpoint on test pictures, by category, group and kind of defect.

    \b
    Examples:
      anomoe-train evaluate runs/tile --data pictures/tile
      anomoe-train evaluate runs/tile --data pictures/tile --require all:image_auroc=0.9
      anomoe-train evaluate runs/mvtec --data mvtec --protocol paper --beside MVTec-AD
      anomoe-train evaluate runs/released --data mvtec --protocol paper --normalise test-minmax
      anomoe-train evaluate runs/zero-shot --data headct --domain medical

    --protocol paper with calibrated maps calibrates anew on the train/good of the data, prepared likewise.
    --masks holds <category>/<split>/<kind>/<name>.png, of the size of its picture: 0 for no component, any
    other number for the component of that number. The run needs no calibrated products then.
    A moeclip run is measured by class name (the category with spaces for underscores), on whole pictures at
    its own size; figures of the paper stand beside ours where the folder has the name of its data set.
    With --require, exit code 1 when a figure of the mean (or only) category is below its least value.
    """
    requirements = [read_requirement(text) for text in require or []]
    chosen = read_protocol(protocol, masks, normalise)
    try:
        with taken_for_good(good.split(",")), progress_bar() as progress:
            if read_method(checkpoint) == "moeclip":
                _refuse("--protocol, --masks and --normalise", "anomalymoe", chosen != Protocol())
                measured = _measure_classes(checkpoint, one_or_all(data), beside, domain, progress)
            else:
                _refuse("--domain", "moeclip", domain != "industrial")
                measured = _measure_products(checkpoint, one_or_all(data), beside, chosen, progress)
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    for table in measured.tables:
        console.print(table)
    if output:
        write_text(output, measured.json)
    missed = [complaint for one in requirements if (complaint := one.complaint(measured.rows))]
    if missed:
        fail("; ".join(missed))


def calibrate(
    checkpoint: RunPath,
    data: DataPaths,
    domain: DomainOption = "industrial",
    good: GoodOption = ALL_GOOD_NAMES,
) -> None:
    """Learn the products of normal pictures (train/good) and calibrate a trained detector on them.

    A quarter of the pictures is held out for the thresholds. Router and experts stay as they are. Products of
    the same name are replaced, the run's others kept.

    Of a moeclip run nothing is learnt: every normal picture calibrates the threshold of its class name.

    \b
    Examples:
      anomoe-train calibrate runs/released --data mvtec/bottle
      anomoe-train calibrate runs/zero-shot --data pictures/copper_ring
    """
    try:
        with taken_for_good(good.split(",")), progress_bar() as progress:
            if read_method(checkpoint) == "moeclip":
                added = [*add_classes(checkpoint, one_or_all(data), domain, progress)]
            else:
                _refuse("--domain", "moeclip", domain != "industrial")
                added = add_products(checkpoint, one_or_all(data), progress)
    except (ValueError, OSError) as error:  # a ValueError for pictures that calibrate nothing, too
        fail(str(error))
    console.print(f"{checkpoint}: calibrated for {', '.join(added)}")


def _measure_products(
    checkpoint: Path, data: Place, beside: str | None, protocol: Protocol, progress: Progress
) -> Measured:
    dataset = read_dataset(beside, "anomalymoe") if beside else None
    run = load_checkpoint(checkpoint, calibrated=protocol.needs_categories)
    rows = evaluate_checkpoint(run, data, progress, protocol)
    theirs = [paper_table(rows, "anomalymoe", dataset)] if dataset else []
    return Measured(rows, [rows_table(rows, protocol), *theirs], rows_json(rows, protocol))


def _measure_classes(
    checkpoint: Path, data: Place, beside: str | None, domain: Domain, progress: Progress
) -> Measured:
    folder = data.resolve().stem if isinstance(data, Path) else ""
    dataset = read_dataset(beside, "moeclip") if beside else find_dataset("moeclip", folder)
    run = load_run(checkpoint)
    rows = by_class.evaluate_run(run, data, domain, progress)
    return Measured(rows, [paper_table(rows, "moeclip", dataset)], by_class.rows_json(rows, run, domain))


def _refuse(options: str, method: Method, is_given: bool) -> None:
    """Raise BadParameter for options of another method."""
    if is_given:
        raise typer.BadParameter(f"{options}: for runs of method {method} only")
