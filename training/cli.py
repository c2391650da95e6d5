"""The `anomoe-train` command: demo data, training and measurement."""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn, get_args

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from export.contract.manifest import LEVELS, Level
from training.ablation import ablate as ablate_config
from training.ablation import results_table
from training.analysis.report import analyse as analyse_checkpoint
from training.analysis.report import summary_table
from training.checkpoint import CheckpointError, load_checkpoint, read_config, write_text
from training.config import BackboneName, FitConfig, preset, with_levels
from training.data import DataError
from training.demo.factory import make_demo_data
from training.distributed import is_main, process_group
from training.evaluation import Requirement, evaluate_checkpoint, rows_json, rows_table
from training.fit import fit as fit_checkpoint
from training.importing import import_file
from training.loop import ParallelError
from training.macs import count_macs, macs_json, macs_table
from training.products import add_products
from training.protocol import Normalisation, Protocol, View
from training.resume import ResumeError
from training.weights import WeightsError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
console = Console(width=None if sys.stdout.isatty() else 160)  # a table in a file needs no wrapping

DataPath = Annotated[
    Path, typer.Option(exists=True, help="Category folder, folder of categories, or JSONL list.")
]


@app.callback()
def main() -> None:
    """Train AnomalyMoE on normal pictures and measure it."""


@app.command()
def fit(
    data: DataPath,
    output: Annotated[Path, typer.Option(help="Folder of the run; `runs/<data>` by default.")] = Path(),
    backbone: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(BackboneName))}.")] = "offline",
    config: Annotated[
        Path | None, typer.Option(exists=True, help="JSON settings in place of a preset.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(exists=True, help="Local file of a trained backbone.")
    ] = None,
    levels: Annotated[str, typer.Option(help="Levels in use, for ablations.")] = ",".join(LEVELS),
) -> None:
    """Train on the normal pictures (train/good) and calibrate on a quarter of them held out.

    Stopped and started again with the same settings and pictures, it goes on where it was.
    Under torchrun, each of several processes (GPUs) takes its share of every batch.

    \b
    Examples:
      anomoe-train fit --data pictures/tile
      anomoe-train fit --data mvtec --backbone dinov2-reg-base --output runs/mvtec
      torchrun --nproc-per-node 4 -m training.cli fit --data mvtec --backbone dinov2-reg-base
    """
    folder = output if output != Path() else Path("runs") / data.resolve().stem
    try:
        settings = with_levels(read_settings(backbone, config), read_levels(levels))
        with process_group(), progress_bar() as progress:
            categories = fit_checkpoint(data, folder, settings, weights, progress)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {folder} holds")
    except (DataError, WeightsError, CheckpointError, ParallelError, ResumeError, OSError) as error:
        fail(str(error))
    if categories:
        console.print(f"{folder}: {len(categories)} categories, {', '.join(categories)}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder written by fit.")],
    data: DataPath,
    *,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON too.")] = None,
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
) -> None:
    """Measure a checkpoint on test pictures, by category, group and kind of defect.

    \b
    Examples:
      anomoe-train evaluate runs/tile --data pictures/tile
      anomoe-train evaluate runs/tile --data pictures/tile --require all:image_auroc=0.9
      anomoe-train evaluate runs/released --data mvtec --protocol paper --normalise test-minmax

    --protocol paper with calibrated maps calibrates anew on the train/good of the data, prepared likewise.
    --masks holds <category>/<split>/<kind>/<name>.png, of the size of its picture: 0 for no component, any
    other number for the component of that number.
    With --require, exit code 1 when a figure of the mean (or only) category is below its least value.
    """
    requirements = [read_requirement(text) for text in require or []]
    chosen = read_protocol(protocol, masks, normalise)
    try:
        with progress_bar() as progress:
            rows = evaluate_checkpoint(load_checkpoint(checkpoint), data, progress, chosen)
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(rows_table(rows, chosen))
    if output:
        write_text(output, rows_json(rows))
    missed = [complaint for one in requirements if (complaint := one.complaint(rows))]
    if missed:
        fail("; ".join(missed))


@app.command("demo-data")
def demo_data(
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    train: Annotated[int, typer.Option(help="Normal training pictures of each product.")] = 400,
    test_good: Annotated[int, typer.Option(help="Normal test pictures of each product.")] = 60,
    test_defect: Annotated[int, typer.Option(help="Test pictures of each kind of defect.")] = 20,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures.")] = 0,
) -> None:
    """Draw the demo factory: three products with natural variation and nine kinds of defects with masks.

    \b
    Examples:
      anomoe-train demo-data runs/demo-data
    """
    with progress_bar() as progress:
        task = progress.add_task("draw", total=None)
        make_demo_data(
            output,
            seed=seed,
            train=train,
            test_good=test_good,
            test_defect=test_defect,
            size=size,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


@app.command("import-weights")
def import_weights(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .pth or safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option(exists=True, help="JSON settings of the run in place of the released ones.")
    ] = None,
) -> None:
    """Turn foreign weights into ours: the released AnomalyMoE detector, or a DINOv2 ViT-B/14 (also timm's).

    Which it is, and whether it has register tokens, is seen from the names. Every tensor must be there, of
    the right shape, and none left over. A detector becomes a run without products; a DINOv2 encoder becomes
    the run's backbone.safetensors.

    \b
    Examples:
      anomoe-train import-weights anomalymoe.pth --output runs/released
      anomoe-train calibrate runs/released --data mvtec
      anomoe-train import-weights dinov2_vitb14_reg4_pretrain.pth --output runs/dinov2
      anomoe-train fit --data mvtec --backbone dinov2-reg-base --weights runs/dinov2/backbone.safetensors
    """
    try:
        imported = import_file(file, output, read_config(config) if config else None)
    except (WeightsError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(f"{imported.path}: {imported.description}")


@app.command()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the run.")],
    data: DataPath,
) -> None:
    """Learn the products of normal pictures (train/good) and calibrate a trained detector on them.

    A quarter of the pictures is held out for the thresholds. Router and experts stay as they are. Products of
    the same name are replaced, the run's others kept.

    \b
    Examples:
      anomoe-train calibrate runs/released --data mvtec/bottle
    """
    try:
        with progress_bar() as progress:
            added = add_products(checkpoint, data, progress)
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(f"{checkpoint}: calibrated for {', '.join(added)}")


def read_settings(backbone: str, config: Path | None) -> FitConfig:
    """The settings of a file, or the preset of a backbone. Raises CheckpointError or BadParameter."""
    if config is not None:
        return read_config(config)
    for name in get_args(BackboneName):
        if name == backbone:
            return preset(name)
    raise typer.BadParameter(f"--backbone: {backbone!r} is none of {', '.join(get_args(BackboneName))}")


def read_requirement(text: str) -> Requirement:
    """`GROUP:METRIC=LEAST`. Raises BadParameter for anything else."""
    try:
        return Requirement.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--require: {error}") from error


def read_protocol(view: View, masks: Path | None, normalise: Normalisation) -> Protocol:
    """How test pictures are prepared and scaled. Raises BadParameter for what does not go together."""
    try:
        return Protocol(view, masks, normalise)
    except ValueError as error:
        raise typer.BadParameter(f"--masks: {error}") from error


def read_levels(text: str) -> tuple[Level, ...]:
    """Level names separated by commas. Raises BadParameter for an unknown one."""
    names = text.split(",")
    unknown = [name for name in names if name not in LEVELS]
    if unknown:
        raise typer.BadParameter(f"--levels: {unknown[0]!r} is none of {', '.join(LEVELS)}")
    return tuple(level for level in LEVELS if level in names)


def progress_bar() -> Progress:
    """Progress with counts, elapsed and remaining time, on the error stream."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, *times, console=Console(stderr=True), disable=not is_main())


def fail(reason: str) -> NoReturn:
    """End with exit code 1 and one line on the error stream."""
    Console(stderr=True).print(f"anomoe-train: {reason}", style="red", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@app.command()
def analyse(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder written by fit.")],
    data: DataPath,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.")],
) -> None:
    """Show what a checkpoint has learnt: router use, maps of each level, redundant and dead experts, MACs.

    Writes maps.png, levels.png, routing.png, redundancy.png and analysis.json.

    \b
    Examples:
      anomoe-train analyse runs/tile --data pictures/tile --output runs/tile/analysis
    """
    try:
        with progress_bar() as progress:
            found = analyse_checkpoint(load_checkpoint(checkpoint), data, output, progress)
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(macs_table(found.macs))
    console.print(summary_table(found))
    console.print(f"{output}: written")


@app.command()
def macs(
    backbone: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(BackboneName))}.")] = "offline",
    config: Annotated[
        Path | None, typer.Option(exists=True, help="JSON settings in place of a preset.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the counts as JSON too.")] = None,
) -> None:
    """Count the multiply-accumulates of one picture, part by part; needs no weights.

    \b
    Examples:
      anomoe-train macs --backbone dinov2-reg-base
      anomoe-train macs --config runs/tile/config.json --output macs.json
    """
    try:
        counts = count_macs(read_settings(backbone, config))
        if output:
            write_text(output, json.dumps(macs_json(counts), indent=2) + "\n")
    except (CheckpointError, OSError) as error:
        fail(str(error))
    console.print(macs_table(counts))


@app.command()
def ablate(
    data: DataPath,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")],
    backbone: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(BackboneName))}.")] = "offline",
    config: Annotated[
        Path | None, typer.Option(exists=True, help="JSON settings in place of a preset.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(exists=True, help="Local file of a trained backbone.")
    ] = None,
) -> None:
    """Train and measure the model without some of its levels, and without its balancing losses.

    Stopped and started again, it goes on after the variants that are finished.

    \b
    Examples:
      anomoe-train ablate --data pictures/tile --output runs/tile-ablation
    """
    try:
        with progress_bar() as progress:
            results = ablate_config(data, output, read_settings(backbone, config), weights, progress)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {output} holds")
    except (DataError, WeightsError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(results_table(results))


if __name__ == "__main__":
    app()
