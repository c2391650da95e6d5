"""Component masks from files, in place of the components that the detector finds itself.

Legend: B pictures, M components, h w patch grid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from torch import Tensor

from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box
from training.data.masks import otsu
from training.data.pictures import DataError, Sample, load_labels
from training.data.sets.listing import on_disk
from training.data.sets.samples import GOOD

_ORDER = (".png", ".JPG", ".bmp")  # in which the release counts the pictures of a kind
_CORNER, _BLUR = 20, 11  # pixels
_ENDS = (slice(None, _CORNER), slice(-_CORNER, None))
_LEAST, _MOST_CORNERS = 64, 3
DILATION = 5  # patches; masks from files are pooled with it in the released pipeline


def component_masks(
    folder: Path, samples: Sequence[Sample], spec: InputSpec, grid: tuple[int, int]
) -> Tensor:
    """Masks of the pictures, bool (B, M, h, w); a picture with fewer components than another has empty ones.

    Those of the paper's release are read as they are, see `_released_masks`. Else a file
    `<folder>/<category>/<split>/<kind>/<name>.png` of its picture's size holds one number a pixel: 0 for no
    component, any other for the component of that number; pictures in folders below that of their kind have
    their masks in such folders, too. Raises DataError for one that does not.
    """
    kept: dict[str, list[int]] = {}
    each = [
        _released_masks(released, one, spec, grid, kept)
        if (released := folder / f"{one.category}_heat_448").is_dir()
        else _picture_masks(folder, one, spec, grid)
        for one in samples
    ]
    masks = torch.zeros(len(samples), max(1, *map(len, each)), *grid, dtype=torch.bool)
    for row, one in enumerate(each):
        masks[row, : len(one)] = torch.from_numpy(one)
    return masks


def mask_path(folder: Path, sample: Sample) -> Path:
    """Where the components of a picture lie."""
    kind = folder / sample.category / sample.split / sample.kind
    return kind / sample.subfolder / f"{sample.path.stem}.png"


def _picture_masks(
    folder: Path, sample: Sample, spec: InputSpec, grid: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Bool (M, h, w)."""
    image = Image.fromarray(load_labels(on_disk(mask_path(folder, sample)), sample))
    height, width = grid
    box = visible_box(image.size, spec)
    labels = np.asarray(image.resize((width, height), Image.Resampling.NEAREST, box=box))
    numbers = np.setdiff1d(labels, [0])
    return labels == numbers[:, None, None]


def _released_masks(
    folder: Path, sample: Sample, spec: InputSpec, grid: tuple[int, int], kept: dict[str, list[int]]
) -> npt.NDArray[np.bool_]:
    """Bool (M, h, w) from `<folder>/<split>/<kind>/<number>/heatresult<i>.jpg`, grey, of 448 x 448 pixels.

    number: place of the picture among those of its kind. Which i count is decided by the first normal
    training picture. Raises DataError for files that are missing.
    """
    if sample.category not in kept:
        kept[sample.category] = _main_parts(folder / "train" / GOOD)
    pictures = [one for suffix in _ORDER for one in sorted(sample.path.parent.glob(f"*{suffix}"))]
    if sample.path not in pictures:
        raise DataError(f"{sample.path}: the release counts {', '.join(_ORDER)} files only")
    place = folder / sample.split / sample.kind / str(pictures.index(sample.path))
    return np.stack([_is_part(place / f"heatresult{i}.jpg", spec, grid) for i in kept[sample.category]])


def _main_parts(good: Path) -> list[int]:
    """Numbers of the parts of the first picture that are bright and touch few corners, else 0 to 4."""
    found: list[int] = []
    for path in sorted((good / "0").glob("heatresult*.jpg")):
        values = _grey(path)
        marked = values > otsu(values)
        corners = [marked[rows, columns] for rows in _ENDS for columns in _ENDS]
        if _blurred(values).max() > _LEAST and sum(corner.any() for corner in corners) < _MOST_CORNERS:
            found.append(int(path.stem.removeprefix("heatresult")))
    return sorted(found) or list(range(5))


def _is_part(path: Path, spec: InputSpec, grid: tuple[int, int]) -> npt.NDArray[np.bool_]:
    values = _grey(path)
    image = Image.fromarray(np.where(values > otsu(values), 255, 0).astype(np.uint8))
    resized = image.resize((grid[1], grid[0]), Image.Resampling.NEAREST, box=visible_box(image.size, spec))
    return np.asarray(resized) > 0


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a component mask: {error}") from error


def _blurred(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.asarray(uniform_filter(values.astype(np.float32), _BLUR), np.float32)
