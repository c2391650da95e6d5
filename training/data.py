"""Pictures and masks of a data set: where they lie, how they are read, which are held out.

Legend: n pictures, H W pixels.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor
from torch.utils.data import Dataset

from export.contract.manifest import InputSpec
from export.contract.preprocess import fit, to_rgb, visible_box

logger = logging.getLogger(__name__)

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
GOOD = "good"
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
LOSSY_SUFFIXES = frozenset({".jpeg", ".jpg", ".webp"})
CACHE_LIMIT_BYTES = 2 * 1024**3


class DataError(ValueError):
    """A data set that cannot be used as it is; the message names the file or folder."""


@dataclass(frozen=True)
class Sample:
    """One picture of a data set; `kind` is "good" or the kind of defect."""

    path: Path
    category: str
    split: Split
    kind: str
    mask_paths: tuple[Path, ...]
    is_anomalous: bool


class _Entry(BaseModel):
    """One line of a JSONL list; paths are relative to the list."""

    image: str = Field(min_length=1)
    mask: str | list[str] | None = None
    label: Literal[0, 1]
    class_name: str = Field(min_length=1)
    split: Split = "test"


def find_samples(root: Path) -> list[Sample]:
    """All pictures of a category folder in MVTec form, a folder of such categories, or a JSONL list.

    A folder that only holds pictures is one category of normal training pictures. Anomalous pictures without
    a mask are kept and logged once. Raises DataError when nothing is found or the list is wrong.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder or list")
    samples = _read_list(root) if root.is_file() else _read_folder(root.absolute())
    unmasked = without_mask(samples)
    if unmasked:
        logger.warning(
            "%s: %d anomalous pictures have no mask and are left out of the pixel metrics, %s the first",
            root,
            len(unmasked),
            unmasked[0].path,
        )
    return samples


def without_mask(samples: Sequence[Sample]) -> list[Sample]:
    """The anomalous pictures whose defects are not marked: pixel metrics must leave them out."""
    return [sample for sample in samples if sample.is_anomalous and not sample.mask_paths]


def split_holdout(
    samples: Sequence[Sample], fraction: float, seed: int = 0
) -> tuple[list[Sample], list[Sample]]:
    """Split into (kept, held out), about `fraction` of each category held out and at least one on each side.

    A picture's side follows from the hash of its folder and file name, so it stays when files are added.
    Raises DataError for a category with a single picture.
    """
    if not 0.0 < fraction < 1.0:
        raise DataError(f"holdout fraction must lie between 0 and 1, got {fraction}")
    categories: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        categories[sample.category].append(sample)
    held_out = {sample for members in categories.values() for sample in _held_out(members, fraction, seed)}
    return [one for one in samples if one not in held_out], [one for one in samples if one in held_out]


def load_picture(path: Path, spec: InputSpec) -> NDArray[np.uint8]:
    """Read a picture as the service does: uint8 (H, W, 3) at model size. Raises DataError naming the file."""
    with _opened(path) as image:
        return fit(to_rgb(image, spec.bit_depth), spec)


def load_mask(
    sample: Sample, spec: InputSpec, size: tuple[int, int] | None = None
) -> NDArray[np.bool_] | None:
    """Anomalous pixels in the part of the picture that `fit` keeps, bool (H, W); None where they are unknown.

    Several masks are united; resizing is nearest. size: (H, W) of the result, the model's by default.
    Raises DataError for a mask that cannot be read or is not of the picture's size.
    """
    if sample.is_anomalous and not sample.mask_paths:
        return None
    height, width = size or (spec.height, spec.width)
    union = np.zeros((height, width), dtype=np.bool_)
    for path in sample.mask_paths:
        mask = Image.fromarray(_read_mask(path))
        expected = _upright_size(sample.path)
        if mask.size != expected:
            raise DataError(f"{path}: mask is {mask.size}, its picture {sample.path} is {expected}")
        box = visible_box(mask.size, spec)
        union |= np.asarray(mask.resize((width, height), Image.Resampling.NEAREST, box=box)) > 0
    return union


def load_labels(path: Path, sample: Sample) -> NDArray[np.int32]:
    """One number a pixel, (H, W) of the picture's own size, as in a grey or palette picture.

    Raises DataError for a file that cannot be read, has colours or is not of the picture's size.
    """
    with _opened(path) as image:
        values, size, expected = np.asarray(image), image.size, _upright_size(sample.path)
    if values.ndim != 2:
        raise DataError(f"{path}: holds {values.shape[2]} values a pixel, one is expected")
    if size != expected:
        raise DataError(f"{path}: is {size}, its picture {sample.path} is {expected}")
    return values.astype(np.int32)


class PictureSet(Dataset[tuple[Tensor, int]]):
    """Pictures as uint8 (H, W, 3) with the index of their category in `categories`.

    cache: keep decoded pictures in memory, as long as all of them fit into CACHE_LIMIT_BYTES.
    """

    def __init__(self, samples: Sequence[Sample], spec: InputSpec, cache: bool = True) -> None:
        self.samples = tuple(samples)
        self.spec = spec
        self.categories = tuple(sorted({sample.category for sample in samples}))
        total_bytes = len(self.samples) * spec.height * spec.width * 3
        self._cache: dict[int, Tensor] | None = {} if cache and total_bytes <= CACHE_LIMIT_BYTES else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._pixels(index), self.categories.index(self.samples[index].category)

    def _pixels(self, index: int) -> Tensor:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        pixels = torch.from_numpy(load_picture(self.samples[index].path, self.spec))
        if self._cache is not None:
            self._cache[index] = pixels
        return pixels


def _read_folder(root: Path) -> list[Sample]:
    if _is_category(root):
        return _read_category(root)
    categories = [folder for folder in _folders(root) if _is_category(folder)]
    if categories:
        return [sample for folder in categories for sample in _read_category(folder)]
    pictures = _pictures(root)
    if not pictures:
        raise DataError(
            f"{root}: no pictures found; looked for train/{GOOD} and test/<kind> in it and in its folders, "
            f"and for {' '.join(sorted(PICTURE_SUFFIXES))} files in it"
        )
    return [Sample(path, root.name, "train", GOOD, (), is_anomalous=False) for path in pictures]


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLITS)


def _read_category(folder: Path) -> list[Sample]:
    samples = [
        sample for split in SPLITS for kind in _folders(folder / split) for sample in _read_kind(kind, split)
    ]
    if not samples:
        raise DataError(f"{folder}: no pictures found in train/{GOOD} or test/<kind>")
    return samples


def _read_kind(folder: Path, split: Split) -> list[Sample]:
    category, kind = folder.parent.parent, folder.name
    is_anomalous = kind != GOOD
    masks = _read_ground_truth(category / "ground_truth" / kind) if is_anomalous else {}
    return [
        Sample(
            path,
            category.name,
            split,
            kind,
            masks.get(f"{path.stem}_mask") or masks.get(path.stem, ()),
            is_anomalous,
        )
        for path in _pictures(folder)
    ]


def _read_ground_truth(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Masks by name: single files by their stem, MVTec LOCO's folders of several masks by the folder name."""
    several = {entry.name: tuple(_pictures(entry)) for entry in _folders(folder)}
    return several | {path.stem: (path,) for path in _pictures(folder)}


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in _visible(folder) if entry.is_dir())


def _pictures(folder: Path) -> list[Path]:
    return sorted(entry for entry in _visible(folder) if entry.suffix.lower() in PICTURE_SUFFIXES)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _read_list(file: Path) -> list[Sample]:
    if file.suffix.lower() != ".jsonl":
        raise DataError(f"{file}: a data set is a folder or a .jsonl list")
    with file.open("rb") as lines:
        samples = [_read_line(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not samples:
        raise DataError(f"{file}: the list is empty")
    return samples


def _read_line(file: Path, number: int, line: bytes) -> Sample:
    try:
        entry = _Entry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{file}:{number}: {field}: {first['msg']}, got {first['input']!r}") from error
    is_anomalous = entry.label == 1
    names = [entry.mask] if isinstance(entry.mask, str) else entry.mask or []
    masks = tuple(file.parent / name for name in names if name and is_anomalous)
    kind = "defect" if is_anomalous else GOOD
    return Sample(file.parent / entry.image, entry.class_name, entry.split, kind, masks, is_anomalous)


def _held_out(members: list[Sample], fraction: float, seed: int) -> list[Sample]:
    if len(members) < 2:
        raise DataError(f"category {members[0].category!r} has one picture, a holdout needs two")
    hashes = {sample: _unit_hash(sample, seed) for sample in members}
    ordered = sorted(members, key=lambda sample: (hashes[sample], sample.path))
    count = sum(value < fraction for value in hashes.values())
    return ordered[: min(max(count, 1), len(members) - 1)]


def _unit_hash(sample: Sample, seed: int) -> float:
    key = f"{seed}/{sample.category}/{sample.path.parent.name}/{sample.path.name}"
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error


def _read_mask(path: Path) -> NDArray[np.uint8]:
    """255 where a mask file marks an anomaly, 0 elsewhere; uint8 (H, W) of the file's own size."""
    with _opened(path) as image:
        values = np.asarray(image.convert("L") if len(image.getbands()) > 1 else image)
    # Masks may hold any number per kind of defect; a lossy file has noise around zero instead.
    least = 128 if path.suffix.lower() in LOSSY_SUFFIXES else 1
    return np.where(values >= least, np.uint8(255), np.uint8(0))


def _upright_size(path: Path) -> tuple[int, int]:
    """(width, height) after the turn that EXIF orientations 5 to 8 ask for, from the header alone."""
    with _opened(path) as image:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if is_turned else image.size
