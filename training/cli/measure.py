"""The commands of `anomoe-train` that measure a run on pictures: evaluate and calibrate."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import Progress
from rich.table import Table

from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint, rows_table
from training.anomalymoe.evaluation.protocol import Normalisation
from training.anomalymoe.products import add_products
from training.cli.options import (
    ALL_GOOD_NAMES,
    ClassNamesOption,
    DataPaths,
    DatasetOption,
    GoodOption,
    ProtocolName,
    ProtocolOption,
    console,
    fail,
    one_or_all,
    progress_bar,
    read_dataset,
    read_protocol,
    read_ranking,
    read_requirement,
    reading,
)
from training.data.dataset import Place
from training.data.pictures import DataError
from training.moeclip import evaluation as by_class
from training.moeclip.calibration import add_classes
from training.moeclip.checkpoint import load_run
from training.moeclip.scoring import Domain
from training.reporting.reference import Figure, Method, find_dataset
from training.reporting.rows import MEAN, Row
from training.reporting.rows_text import SUFFIXES, rows_text
from training.reporting.tables import datasets_tables, paper_table, table_1
from training.runs.files import CheckpointError, read_method, write_text

RunPath = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the run.")]
AnyDomainOption = Annotated[
    Domain | None,
    typer.Option(help="moeclip: as of calibrate; by default medical for the known medical data sets."),
]
DomainOption = Annotated[
    Domain, typer.Option(help="moeclip: medical pictures have softer maps, and scores from the map alone.")
]


SheetsOption = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="Draw the worst, borderline and best pictures of each category."),
]


class How(NamedTuple):
    """What `evaluate` is asked for beside run and pictures. state: where scores are kept on the way."""

    protocol: ProtocolName
    masks: Path | None
    normalise: Normalisation
    domain: Domain | None
    beside: str | None
    batch_size: int | None
    state: Path | None
    sheets: Path | None

    def options(self) -> dict[str, Any]:
        """For the function that measures."""
        sized = {"batch": self.batch_size} if self.batch_size else {}
        return {"state": self.state, "sheets": self.sheets, **sized}


class Measured(NamedTuple):
    """The figures of a run, how they were measured, tables of them, and Table 1 of the paper with them."""

    rows: list[Row]
    protocol: dict[str, Any]
    tables: list[Table]
    published: list[Figure]


def add_measuring(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, calibrate):
        app.command()(command)


def evaluate(  # noqa: PLR0913 - one an option
    checkpoint: RunPath,
    data: DataPaths,
    *,
    output: Annotated[Path | None, typer.Option(help="Write the figures too: .json, .csv or .md.")] = None,
    beside: Annotated[
        str | None, typer.Option(help="Name of a data set in the paper: show its figures beside ours.")
    ] = None,
    require: Annotated[list[str] | None, typer.Option(help="GROUP:METRIC=LEAST, may be repeated.")] = None,
    protocol: ProtocolOption = "serving",
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
    domain: AnyDomainOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at a time.")] = None,
    sheets: SheetsOption = None,
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
    class_names: ClassNamesOption = None,
) -> None:
    """Measure a checkpoint on test pictures, by category, group and kind of defect.

    \b
    Examples:
      anomoe-train evaluate runs/tile --data pictures/tile
      anomoe-train evaluate runs/tile --data pictures/tile --require all:image_auroc=0.9
      anomoe-train evaluate runs/mvtec --data mvtec --protocol paper --beside MVTec-AD
      anomoe-train evaluate runs/released --data data/mvtec_ad --protocol released --masks data/masks
      anomoe-train evaluate runs/zero-shot --data data --protocol paper
      anomoe-train evaluate runs/zero-shot --data headct --domain medical

    --protocol paper with calibrated maps calibrates anew on the train/good of the data, prepared likewise.
    --masks holds <category>/<split>/<kind>/<name>.png, of the size of its picture: 0 for no component, any
    other number for the component of that number. The run needs no calibrated products then.
    A moeclip run is measured by category on whole pictures at its own size; figures of the paper stand beside
    ours where the folder has the name of its data set.
    Scores lie beside --output while the command works (`<output>.state`): stopped and started again, it goes
    on after the pictures that are scored. Intervals are 95 %, by bootstrap over the pictures.
    With --require, exit code 1 when a figure of the mean (or only) category is below its least value.
    """
    if output and output.suffix not in SUFFIXES:
        raise typer.BadParameter(f"--output: {output} is none of {', '.join(SUFFIXES)}")
    requirements = [read_requirement(text) for text in require or []]
    state = output and output.with_name(f"{output.name}.state")
    how = How(protocol, masks, normalise, domain, beside, batch_size, state, sheets)
    try:
        with reading(good, dataset, class_names), progress_bar() as progress:
            measured = _measured(checkpoint, one_or_all(data), how, progress)
    except KeyboardInterrupt:
        fail("stopped; with --output the same command goes on after the pictures that are scored")
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    for table in measured.tables:
        console.print(table)
    if output:
        write_text(output, rows_text(output, measured.rows, measured.protocol, measured.published))
    missed = [complaint for one in requirements if (complaint := one.complaint(measured.rows))]
    if missed:
        fail("; ".join(missed))


def calibrate(
    checkpoint: RunPath,
    data: DataPaths,
    domain: DomainOption = "industrial",
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
    class_names: ClassNamesOption = None,
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
        with reading(good, dataset, class_names), progress_bar() as progress:
            if read_method(checkpoint) == "moeclip":
                added = [*add_classes(checkpoint, one_or_all(data), domain, progress)]
            else:
                _refuse("--domain", "moeclip", domain != "industrial")
                added = add_products(checkpoint, one_or_all(data), progress)
    except (ValueError, OSError) as error:  # a ValueError for pictures that calibrate nothing, too
        fail(str(error))
    console.print(f"{checkpoint}: calibrated for {', '.join(added)}")


def _measured(checkpoint: Path, data: Place, how: How, progress: Progress) -> Measured:
    """By the method of the run. Raises BadParameter for options of the other one."""
    if read_method(checkpoint) == "moeclip":
        _refuse("--masks and --normalise", "anomalymoe", bool(how.masks) or how.normalise != "calibrated")
        return _measure_classes(checkpoint, data, how, progress)
    _refuse("--domain", "moeclip", how.domain is not None)
    return _measure_products(checkpoint, data, how, progress)


def _measure_products(checkpoint: Path, data: Place, how: How, progress: Progress) -> Measured:
    protocol = read_protocol(how.protocol, how.masks, how.normalise)
    dataset = read_dataset(how.beside, "anomalymoe") if how.beside else None
    run = load_checkpoint(checkpoint, calibrated=protocol.needs_categories)
    rows = evaluate_checkpoint(run, data, progress, protocol, **how.options())
    theirs = [paper_table(rows, "anomalymoe", dataset)] if dataset else []
    published = table_1(rows, "anomalymoe")
    tables = [rows_table(rows, protocol), *theirs, *datasets_tables(published, "anomalymoe")]
    return Measured(rows, protocol.as_json(), tables, published)


def _measure_classes(checkpoint: Path, data: Place, how: How, progress: Progress) -> Measured:
    by = read_ranking(how.protocol)
    run = load_run(checkpoint)
    rows = by_class.evaluate_run(run, data, how.domain, progress, by, **how.options())
    named = {find_dataset("moeclip", one.dataset) for one in rows if one.category != MEAN}
    recognised = named.pop() if len(named) == 1 else None
    dataset = read_dataset(how.beside, "moeclip") if how.beside else recognised
    table = paper_table(rows, "moeclip", dataset)
    table.caption = f"{table.caption}; {by_class.RANKED[by]}"
    published = table_1(rows, "moeclip")
    tables = [table, *datasets_tables(published, "moeclip")]
    return Measured(rows, by_class.protocol_json(run, how.domain, by), tables, published)


def _refuse(options: str, method: Method, is_given: bool) -> None:
    """Raise BadParameter for options of another method."""
    if is_given:
        raise typer.BadParameter(f"{options}: for runs of method {method} only")
