"""Component masks from files, in place of the components that the detector finds itself.

Legend: B pictures, M components, h w patch grid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box
from training.data.pictures import Sample, load_labels
from training.data.sets.listing import on_disk

DILATION = 5  # patches; masks from files are pooled with it in the released pipeline


def component_masks(
    folder: Path, samples: Sequence[Sample], spec: InputSpec, grid: tuple[int, int]
) -> Tensor:
    """Masks of the pictures, bool (B, M, h, w); a picture with fewer components than another has empty ones.

    A file `<folder>/<category>/<split>/<kind>/<name>.png` of its picture's size holds one number a pixel: 0
    for no component, any other for the component of that number; pictures in folders below that of their kind
    have their masks in such folders, too. Raises DataError for one that does not.
    """
    each = [_picture_masks(folder, one, spec, grid) for one in samples]
    masks = torch.zeros(len(samples), max(1, *map(len, each)), *grid, dtype=torch.bool)
    for row, one in enumerate(each):
        masks[row, : len(one)] = torch.from_numpy(one)
    return masks


def _picture_masks(
    folder: Path, sample: Sample, spec: InputSpec, grid: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Bool (M, h, w)."""
    kind = folder / sample.category / sample.split / sample.kind
    path = on_disk(kind / sample.subfolder / f"{sample.path.stem}.png")
    image = Image.fromarray(load_labels(path, sample))
    height, width = grid
    box = visible_box(image.size, spec)
    labels = np.asarray(image.resize((width, height), Image.Resampling.NEAREST, box=box))
    numbers = np.setdiff1d(labels, [0])
    return labels == numbers[:, None, None]
