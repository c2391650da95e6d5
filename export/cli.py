"""The `anomoe-export` command: bundles from checkpoints."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from export.contract.bundle import Bundle, BundleError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
console = Console()

CheckpointFolder = Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder written by fit.")]
BundleFolder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Bundle folder.")]


@app.callback()
def main() -> None:
    """From a trained checkpoint to a bundle that the service loads without torch."""


@app.command()
def build(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder written by fit.")],
    output: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    name: Annotated[str | None, typer.Option(help="Model name; the output folder's by default.")] = None,
    version: Annotated[str, typer.Option(help="Model version.")] = "1",
) -> None:
    """Export a checkpoint as a bundle.

    \b
    Examples:
      anomoe-export build runs/tile bundles/tile
      anomoe-export build runs/tile bundles/tile --name line-3 --version 2
    """
    from export.build import build_bundle  # noqa: PLC0415 (--help must not wait for torch)
    from training.checkpoint import CheckpointError, load_checkpoint  # noqa: PLC0415

    try:
        with console.status("exporting") as status:
            loaded = load_checkpoint(checkpoint)
            bundle = build_bundle(
                loaded, output, name or output.name, version, lambda key: status.update(f"exported {key}")
            )
    except (CheckpointError, BundleError, OSError) as error:
        fail(str(error))
    size = sum(file.bytes for file in bundle.manifest.files.values())
    console.print(f"{output}: {len(bundle.manifest.graphs)} graphs, {size / 1e6:.1f} MB, {bundle.digest}")


@app.command()
def verify(bundle: BundleFolder, checkpoint: CheckpointFolder) -> None:
    """Compare every graph of a bundle with the torch model it was made from.

    \b
    Examples:
      anomoe-export verify bundles/tile --checkpoint runs/tile
    """
    from export.verify import TOLERANCE, compare  # noqa: PLC0415
    from training.checkpoint import CheckpointError, load_checkpoint  # noqa: PLC0415

    table = Table("graph", "batch", "largest difference")
    try:
        differences = list(compare(Bundle.read(bundle), load_checkpoint(checkpoint)))
    except (CheckpointError, BundleError, OSError) as error:
        fail(str(error))
    for one in differences:
        table.add_row(one.graph, str(one.batch), f"{one.largest:.1e}")
    console.print(table)
    refused = [one.graph for one in differences if not one.is_accepted]
    if refused:
        fail(f"{bundle}: differs by more than {TOLERANCE:g} in {', '.join(dict.fromkeys(refused))}")
    console.print(f"{bundle}: equal to {checkpoint} within {TOLERANCE:g}")


@app.command()
def inspect(bundle: BundleFolder) -> None:
    """Check a bundle's files and list what is in it.

    \b
    Examples:
      anomoe-export inspect bundles/demo
    """
    try:
        read = Bundle.read(bundle)
    except BundleError as error:
        fail(str(error))
    manifest = read.manifest
    console.print(
        f"{manifest.name} version {manifest.version}, {manifest.kind}, made {manifest.created:%Y-%m-%d %H:%M}"
    )
    console.print(f"{read.digest}")
    graphs = Table("graph", "inputs", "outputs", "kB")
    for key, graph in manifest.graphs.items():
        kilobytes = manifest.files[graph.path].bytes / 1000
        graphs.add_row(key, ", ".join(graph.inputs), ", ".join(graph.outputs), f"{kilobytes:.0f}")
    console.print(graphs)
    categories = Table("category", "components", "calibration pictures", "false positives promised")
    for category in read.categories.values():
        count = len(category.scores)
        categories.add_row(category.name, str(len(category.centres)), str(count), f">= {1 / (count + 1):.2%}")
    console.print(categories)


def fail(reason: str) -> NoReturn:
    """End with exit code 1 and one line on the error stream."""
    Console(stderr=True).print(f"anomoe-export: {reason}", style="red", highlight=False, soft_wrap=True)
    raise typer.Exit(1)
