"""All samples of a data set, from folders or a list, and those that are held out."""

import hashlib
import logging
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from export.contract.names import Name, composed
from training.data.sets.listing import on_disk
from training.data.sets.reading import described, read_folder
from training.data.sets.samples import GOOD, DataError, Sample, Split

MOST_HELD_OUT = 5000  # pictures of a category: its threshold gains nothing from more, its training does

logger = logging.getLogger(__name__)


class _Entry(BaseModel):
    """One line of a JSONL list; paths are relative to the list."""

    image: str = Field(min_length=1)
    mask: str | list[str] | None = None
    label: Literal[0, 1]
    class_name: Name = Field(min_length=1)
    split: Split = "test"


class Places(tuple[Path, ...]):
    """Several data sets as one."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self))


Place = Path | Places


def find_samples(place: Place) -> list[Sample]:
    """All pictures of a data set in a form of `sets.reading`, of a folder of such, or of a JSONL list.

    A folder that only holds pictures is one category of normal training pictures. What is taken for good and
    what is passed over is logged, and how many anomalous pictures have no mask, which are kept. Raises
    DataError when nothing is found or the list is wrong, and for a category that two of several places have.
    """
    if isinstance(place, Path):
        return _find_in(place)
    found = [(root, _find_in(root)) for root in place]
    origins: dict[str, Path] = {}
    for root, samples in found:
        for name in {sample.category for sample in samples}:
            if name in origins:
                raise DataError(
                    f"category {name!r}: in {origins[name]} and in {root}; if they are one product, put its "
                    "pictures into one folder, else rename one"
                )
            origins[name] = root
    return [sample for _, samples in found for sample in samples]


def _find_in(root: Path) -> list[Sample]:
    if not root.exists():
        raise DataError(f"{root}: no such folder or list")
    samples = described(_read_list(root) if root.is_file() else read_folder(root.absolute()))
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

    All are kept for a fraction of 0. A category with pictures in `validation`, which its authors held out,
    holds out those. Else a picture's side follows from the hash of its folder and file name, so it stays when
    files are added, up to MOST_HELD_OUT of them.
    Raises DataError for a category with a single picture.
    """
    if not 0.0 <= fraction < 1.0:
        raise DataError(f"holdout fraction must be at least 0 and below 1, got {fraction}")
    categories: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        categories[sample.category].append(sample)
    if single := [name for name, members in categories.items() if len(members) < 2]:
        raise DataError(f"category {single[0]!r} has one picture, calibration needs two")
    if not fraction:
        return list(samples), []
    held_out = {sample for members in categories.values() for sample in _held_out(members, fraction, seed)}
    return [one for one in samples if one not in held_out], [one for one in samples if one in held_out]


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
        entry = _Entry.model_validate_json(line.removeprefix(BOM_UTF8))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{file}:{number}: {field}: {first['msg']}, got {first['input']!r}") from error
    is_anomalous = entry.label == 1
    names = [entry.mask] if isinstance(entry.mask, str) else entry.mask or []
    masks = tuple(on_disk(file.parent / name) for name in names if name and is_anomalous)
    kind = "defect" if is_anomalous else GOOD
    return Sample(
        on_disk(file.parent / entry.image), entry.class_name, entry.split, kind, masks, is_anomalous
    )


def _held_out(members: list[Sample], fraction: float, seed: int) -> list[Sample]:
    validation = [one for one in members if one.split == "validation"]
    if 0 < len(validation) < len(members):
        return validation
    hashes = {sample: _unit_hash(sample, seed) for sample in members}
    ordered = sorted(members, key=lambda sample: (hashes[sample], sample.path))
    count = sum(value < fraction for value in hashes.values())
    return ordered[: min(max(count, 1), len(members) - 1, MOST_HELD_OUT)]


def _unit_hash(sample: Sample, seed: int) -> float:
    key = f"{seed}/{sample.category}/{sample.path.parent.name}/{sample.path.name}"
    digest = hashlib.sha256(composed(key).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
