"""The command of `anomoe-train` that writes component masks: segment."""

from pathlib import Path
from typing import Annotated

import typer

from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.segmentation import write_components
from training.cli.options import (
    ALL_GOOD_NAMES,
    DataPaths,
    DatasetOption,
    GoodOption,
    console,
    fail,
    one_or_all,
    progress_bar,
    reading,
)
from training.data.pictures import DataError
from training.runs.files import CheckpointError


def add_segment(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(segment)


def segment(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the run.")],
    data: DataPaths,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the masks.")],
    components: Annotated[
        int | None,
        typer.Option(min=1, max=255, help="Of each product; by default the run's own centres."),
    ] = None,
    good: GoodOption = ALL_GOOD_NAMES,
    dataset: DatasetOption = None,
) -> None:
    """Write the components of every picture as a mask, for `evaluate --masks`.

    A mask is a grey PNG of its picture's size, <output>/<category>/<split>/<kind>/<name>.png: 0 for what a
    crop leaves out, else the number of the component. Components are the nearest of the product's K-means
    centres, those of the run, or with --components, and for products the run does not know, new ones of the
    normal training pictures. Masks that are there are kept: stopped and started again, it goes on.

    \b
    Examples:
      anomoe-train segment runs/released --data data/mvtec_ad --components 5 --output data/masks
      anomoe-train evaluate runs/released --data data/mvtec_ad --protocol released --masks data/masks
    """
    try:
        with reading(good, dataset), progress_bar() as progress:
            run = load_checkpoint(checkpoint, calibrated=False)
            written = write_components(run, one_or_all(data), output, components, progress)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on from what {output} holds")
    except (DataError, CheckpointError, OSError) as error:
        fail(str(error))
    console.print(f"{output}: {written} masks written")
