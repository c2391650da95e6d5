"""The MVTec form: MVTec AD, LOCO, DTD-Synthetic, BTAD (`ok`, `ko`), and most that is converted.

`<category>/{train,validation,test}/<kind>/` with masks in `<category>/ground_truth/<kind>/`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from export.contract.names import composed
from training.data.sets.listing import (
    category_name,
    files_in,
    folders_in,
    key,
    listed,
    named,
    pictures_in,
    stem,
)
from training.data.sets.samples import GOOD, SPLITS, DataError, Form, Sample, Split

GOOD_NAMES = ("good", "ok", "normal")

_good_names: ContextVar[Sequence[str]] = ContextVar("good_names", default=GOOD_NAMES)


@contextmanager
def taken_for_good(names: Iterable[str]) -> Iterator[None]:
    """Within it, folders of these names, in any case, hold normal pictures; GOOD_NAMES elsewhere."""
    token = _good_names.set([key(name) for name in names])
    try:
        yield
    finally:
        _good_names.reset(token)


def is_good(kind: Path) -> bool:
    """Whether a folder holds normal pictures, by its name."""
    return key(kind.name) in _good_names.get()


def _fits(folder: Path) -> bool:
    return bool(named(folder, *SPLITS))


def _read(folder: Path) -> list[Sample]:
    samples = [
        sample
        for split in SPLITS
        for place in named(folder, split)
        for kind in folders_in(place)
        for sample in _read_kind(folder, split, kind)
    ]
    if not samples:
        left = listed(files_in(folder), folder)
        raise DataError(f"{folder}: no pictures found in train/{GOOD} or test/<kind>; passed over: {left}")
    return samples


def _read_kind(category: Path, split: Split, folder: Path) -> list[Sample]:
    is_anomalous = not is_good(folder)
    paths = {path: stem(path, folder) for path in pictures_in(folder)}
    beside = _masks_among(paths)
    masks = beside | _read_ground_truth(category, folder.name) if is_anomalous else {}
    in_any_case = {key(name): paths for name, paths in masks.items()}
    kind = composed(folder.name) if is_anomalous else GOOD
    samples: list[Sample] = []
    for path, name in paths.items():
        if name in beside:
            continue
        own = masks.get(f"{name}_mask") or masks.get(name)
        own = own or in_any_case.get(key(f"{name}_mask")) or in_any_case.get(key(name), ())
        subfolder, _, _ = name.rpartition("/")
        samples.append(Sample(path, category_name(category), split, kind, own, is_anomalous, subfolder))
    return samples


def _masks_among(paths: Mapping[Path, str]) -> dict[str, tuple[Path, ...]]:
    """Masks that lie beside their pictures, by name: taken for pictures they would be parts with defects."""
    names = {key(f"{name}_mask") for name in paths.values()}
    return {name: (path,) for path, name in paths.items() if key(name) in names}


def _read_ground_truth(category: Path, kind: str) -> dict[str, tuple[Path, ...]]:
    """Masks by their own name, and by that of their folder, as MVTec LOCO has several of a picture."""
    masks: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for folder in (one for truth in named(category, "ground_truth") for one in named(truth, kind)):
        for path in pictures_in(folder):
            name = stem(path, folder)
            masks[name] += (path,)
            masks[name.rpartition("/")[0]] += (path,)
    return masks


MVTEC = Form(f"train/{GOOD} and test/<kind> (masks in ground_truth/<kind>)", _fits, _read)
