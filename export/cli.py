"""The `anomoe-export` command: bundles from checkpoints."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from export.contract.bundle import Bundle, BundleError
from export.contract.manifest_file import store_verification
from export.contract.names import composed
from export.contract.provenance import Format, Precision
from service.inference.backends.base import Device, GraphError
from training.data.logs import log_to_stderr
from training.data.sets.mvtec import GOOD_NAMES, taken_for_good

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
console = Console()

CheckpointFolder = Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder written by fit.")]
GoodOption = Annotated[
    str, typer.Option("--good", help="Names of the folders of normal pictures in --data, in any case.")
]
ALL_GOOD_NAMES = ",".join(GOOD_NAMES)
BundleFolder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Bundle folder.")]


@app.callback()
def main() -> None:
    """From a trained checkpoint to a bundle that the service loads without torch."""
    log_to_stderr()


@app.command()
def build(  # noqa: PLR0913, PLR0917 (one parameter an option)
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder written by fit.")],
    output: Annotated[Path, typer.Argument(help="Bundle folder to write; an older one is replaced.")],
    name: Annotated[str | None, typer.Option(help="Model name; the output folder's by default.")] = None,
    version: Annotated[str, typer.Option(help="Model version.")] = "1",
    form: Annotated[Format, typer.Option("--format", help="Runtime of the graphs.")] = "onnx",
    precision: Annotated[Precision, typer.Option(help="fp16 is for CUDA, int8 for CPUs.")] = "fp32",
    categories: Annotated[
        str | None, typer.Option(help="Products to carry, comma-separated; all by default.")
    ] = None,
    keep_unused: Annotated[
        bool, typer.Option("--keep-unused", help="Carry experts that no calibration picture chose, too.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Data set: its test pictures tell what the bundle loses in accuracy, its normal training "
            "pictures calibrate int8-static.",
        ),
    ] = None,
    good: GoodOption = ALL_GOOD_NAMES,
) -> None:
    """Export a checkpoint as a bundle.

    \b
    Examples:
      anomoe-export build runs/tile bundles/tile
      anomoe-export build runs/tile bundles/tile --name line-3 --version 2
      anomoe-export build runs/tile bundles/line-3 --categories tile --precision int8 --data data/tile
    """
    from export.assemble import Request, assemble  # noqa: PLC0415
    from export.verify.accuracy import accuracy_table  # noqa: PLC0415 (--help must not wait for torch)
    from training.data.pictures import DataError  # noqa: PLC0415
    from training.runs.files import CheckpointError  # noqa: PLC0415

    names = None if categories is None else tuple(composed(one.strip()) for one in categories.split(","))
    request = Request(name or output.name, version, form, precision, names, keep_unused, data)
    try:
        with taken_for_good(good.split(",")), shown_progress() as progress:
            bundle, accuracy = assemble(checkpoint, output, request, progress)
    except (CheckpointError, DataError, BundleError, GraphError, OSError, ValueError) as error:
        fail(str(error))
    size = sum(file.bytes for file in bundle.manifest.files.values())
    console.print(f"{output}: {len(bundle.manifest.graphs)} graphs, {size / 1e6:.1f} MB, {bundle.digest}")
    absent = bundle.manifest.left_out
    if absent.experts or absent.categories:
        experts = [f"{one.level} expert {one.index}" for one in absent.experts]
        console.print(f"left out: {', '.join([*experts, *absent.categories])}")
    if accuracy:
        console.print(accuracy_table(accuracy))


@app.command()
def verify(
    bundle: BundleFolder,
    checkpoint: CheckpointFolder,
    data: Annotated[
        Path | None, typer.Option(exists=True, help="Data set whose test pictures are compared, too.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the bundle computes.")] = "cpu",
    good: GoodOption = ALL_GOOD_NAMES,
) -> None:
    """Compare every graph of a bundle, and its maps and scores, with the torch model it was made from.

    The result is kept in the manifest if it is within bounds: 1e-4 of the largest value for fp32, 2e-2 for
    fp16, an AUROC that drops by at most 0.5 points for int8.

    \b
    Examples:
      anomoe-export verify bundles/tile --checkpoint runs/tile
      anomoe-export verify bundles/tile --checkpoint runs/tile --data data/tile
      anomoe-export verify bundles/tile-fp16 --checkpoint runs/tile --device cuda
    """
    from export.assemble import compare_run  # noqa: PLC0415
    from export.verify.accuracy import accuracy_table  # noqa: PLC0415
    from training.data.pictures import DataError  # noqa: PLC0415
    from training.runs.files import CheckpointError  # noqa: PLC0415

    try:
        with taken_for_good(good.split(",")), shown_progress() as progress:
            result = compare_run(Bundle.read(bundle), checkpoint, data, progress, device)
    except (CheckpointError, DataError, BundleError, GraphError, OSError, ValueError) as error:
        fail(str(error))
    table = Table("compared", "largest difference")
    for subject, largest in result.largest().items():
        table.add_row(subject, f"{largest:.1e}")
    console.print(table)
    if result.accuracy:
        console.print(accuracy_table(result.accuracy))
    complaints = result.complaints()
    if complaints:
        fail(f"{bundle}: {'; '.join(complaints)}")
    store_verification(bundle, result.verification())
    limit = "by AUROC" if result.tolerance is None else f"within {result.tolerance:g}"
    console.print(f"{bundle}: equal to {checkpoint} {limit}")


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="Folder of a bundle, or address of a running service.")],
    data: Annotated[Path, typer.Option(exists=True, help="Data set whose test pictures are judged.")],
    *,
    output: Annotated[Path | None, typer.Option(help="Write the figures too: .json, .csv or .md.")] = None,
    sheets: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Draw the worst, borderline and best pictures of each category."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where a bundle computes.")] = "cpu",
    key: Annotated[str | None, typer.Option(envvar="ANOMOE_KEY", help="API key of the service.")] = None,
    good: GoodOption = ALL_GOOD_NAMES,
) -> None:
    """Measure a bundle or a running service as `anomoe-train evaluate` measures a checkpoint.

    Scores and maps lie beside --output while the command works (`<output>.state`, 260 kB a picture at 256
    pixels): stopped and started again, it goes on after the pictures that are scored.

    \b
    Examples:
      anomoe-export evaluate bundles/tile --data data/tile --output tile.csv
      anomoe-export evaluate http://localhost:8000 --data data/tile
    """
    from export.verify.evaluation import ServiceError, evaluate_bundle, evaluate_service  # noqa: PLC0415
    from training.anomalymoe.evaluation.evaluate import rows_table  # noqa: PLC0415
    from training.data.pictures import DataError  # noqa: PLC0415
    from training.reporting.rows_text import SUFFIXES, rows_text  # noqa: PLC0415
    from training.reporting.tables import datasets_tables, table_1  # noqa: PLC0415

    if output and output.suffix not in SUFFIXES:
        raise typer.BadParameter(f"--output: {output} is none of {', '.join(SUFFIXES)}")
    state = output and output.with_name(f"{output.name}.state")
    try:
        with taken_for_good(good.split(",")), shown_progress() as progress:
            if target.startswith(("http://", "https://")):
                rows = evaluate_service(target, key, data, progress, state, sheets)
            else:
                rows = evaluate_bundle(Path(target), data, progress, device, state, sheets)
        published = table_1(rows, "anomalymoe")
        if output:
            text = rows_text(output, rows, {"target": target}, published)
            output.write_text(text, encoding="utf-8")
    except (DataError, BundleError, GraphError, ServiceError, OSError, ValueError) as error:
        fail(str(error))
    for table in [rows_table(rows), *datasets_tables(published, "anomalymoe")]:
        console.print(table)


@app.command()
def inspect(bundle: BundleFolder) -> None:
    """Check a bundle's files and graphs and list what is in it.

    \b
    Examples:
      anomoe-export inspect bundles/demo
    """
    from export.summary import describe  # noqa: PLC0415
    from service.inference.backends.loading import open_graph  # noqa: PLC0415

    try:
        opened = Bundle.read(bundle)
        for key in opened.manifest.graphs:
            open_graph(opened, key, "cpu")  # compares the signature of the file with the manifest
        console.print(describe(opened))
    except (BundleError, GraphError) as error:
        fail(str(error))


@app.command()
def push(
    bundle: BundleFolder,
    target: Annotated[str, typer.Argument(help="hf://OWNER/NAME or a folder.")],
) -> None:
    """Copy a bundle to a hub or a folder, after a check of its files.

    \b
    Examples:
      anomoe-export push bundles/tile hf://factory/tile
      anomoe-export push bundles/tile /mnt/models/tile
    """
    from export.hub import HubError, push_bundle  # noqa: PLC0415

    try:
        digest = push_bundle(bundle, target)
    except (BundleError, HubError, OSError) as error:
        fail(str(error))
    console.print(f"{target}: {digest}")


@app.command()
def pull(
    source: Annotated[str, typer.Argument(help="hf://OWNER/NAME, https://HOST/PATH or a folder.")],
    folder: Annotated[Path, typer.Argument(help="Bundle folder to write; an older one is replaced.")],
    digest: Annotated[
        str | None, typer.Option(help="Digest that the bundle must have; needed for https.")
    ] = None,
) -> None:
    """Fetch a bundle; nothing is placed unless digest, sizes and hashes are right.

    \b
    Examples:
      anomoe-export pull hf://factory/tile bundles/tile --digest sha256:0123...
      anomoe-export pull https://models.example/tile bundles/tile --digest sha256:0123...
    """
    from export.hub import HubError, pull_bundle  # noqa: PLC0415

    try:
        with shown_progress() as progress:
            pulled = pull_bundle(source, folder, digest, progress)
    except (BundleError, HubError, OSError) as error:
        fail(str(error))
    console.print(f"{folder}: {pulled.manifest.name} version {pulled.manifest.version}, {pulled.digest}")


def shown_progress() -> Progress:
    """Progress on the error stream, gone when it is done; none where that is no terminal."""
    errors = Console(stderr=True)
    return Progress(console=errors, transient=True, disable=not errors.is_terminal)


def fail(reason: str) -> NoReturn:
    """End with exit code 1 and one line on the error stream."""
    line = Text(f"anomoe-export: {' '.join(reason.split())}", style="red")  # a path may look like markup
    Console(stderr=True).print(line, soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
