"""The pictures of a data set in folders: what holds normal ones, which mask is whose, what is passed over."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from export.contract.names import composed
from training.data.samples import GOOD, SPLITS, DataError, Sample, Split

logger = logging.getLogger(__name__)

SUFFIXES = ".avif .bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
GOOD_NAMES = ("good", "ok", "normal")

_good_names: ContextVar[Sequence[str]] = ContextVar("good_names", default=GOOD_NAMES)


@contextmanager
def taken_for_good(names: Iterable[str]) -> Iterator[None]:
    """Within it, folders of these names, in any case, hold normal pictures; GOOD_NAMES elsewhere."""
    token = _good_names.set([_key(name.strip()) for name in names])
    try:
        yield
    finally:
        _good_names.reset(token)


def read_folder(root: Path) -> list[Sample]:
    """All pictures of a category folder, a folder of categories, or a folder of normal training pictures.

    What was taken for what is logged, and what was passed over. Raises DataError when nothing is found.
    """
    categories = [root] if _is_category(root) else [one for one in _folders(root) if _is_category(one)]
    samples = [sample for folder in categories for sample in _read_category(folder)]
    if not categories:
        pictures = [one for one in _pictures(root) if one.parent == root]
        samples = [Sample(one, _name(root), "train", GOOD, (), is_anomalous=False) for one in pictures]
    if not samples:
        raise DataError(
            f"{root}: no pictures found; looked for train/{GOOD} and test/<kind> in it and in its folders, "
            f"and for {SUFFIXES} files in it; passed over: {_listed(_files(root), root)}"
        )
    _log_kinds(root, samples)
    used = {path for one in samples for path in (one.path, *one.mask_paths)}
    if left := [one for one in _files(root) if one not in used]:
        logger.warning("%s: passed over: %s", root, _listed(left, root))
    return samples


def on_disk(path: Path) -> Path:
    """The path as it is there, should its names be written in another Unicode form."""
    if path.exists() or path == path.parent:
        return path
    folder = on_disk(path.parent)
    return next((one for one in _visible(folder) if composed(one.name) == composed(path.name)), path)


def _is_category(folder: Path) -> bool:
    return any(_named(folder, split) for split in SPLITS)


def _read_category(folder: Path) -> list[Sample]:
    samples = [
        sample
        for split in SPLITS
        for place in _named(folder, split)
        for kind in _folders(place)
        for sample in _read_kind(folder, split, kind)
    ]
    if not samples:
        left = _listed(_files(folder), folder)
        raise DataError(f"{folder}: no pictures found in train/{GOOD} or test/<kind>; passed over: {left}")
    return samples


def _read_kind(category: Path, split: Split, folder: Path) -> list[Sample]:
    is_anomalous = _key(folder.name) not in _good_names.get()
    masks = _read_ground_truth(category, folder.name) if is_anomalous else {}
    kind = composed(folder.name) if is_anomalous else GOOD
    samples: list[Sample] = []
    for path in _pictures(folder):
        stem = _stem(path, folder)
        own = masks.get(f"{stem}_mask") or masks.get(stem, ())
        subfolder, _, _ = stem.rpartition("/")
        samples.append(Sample(path, _name(category), split, kind, own, is_anomalous, subfolder))
    return samples


def _read_ground_truth(category: Path, kind: str) -> dict[str, tuple[Path, ...]]:
    """Masks by their own name, and by that of their folder, as MVTec LOCO has several of a picture."""
    masks: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for folder in (one for truth in _named(category, "ground_truth") for one in _named(truth, kind)):
        for path in _pictures(folder):
            stem = _stem(path, folder)
            masks[stem] += (path,)
            masks[stem.rpartition("/")[0]] += (path,)
    return masks


def _log_kinds(root: Path, samples: Sequence[Sample]) -> None:
    """Which folders were taken for good, by their own names, and which for defects."""
    good = Counter(
        one.path.parents[len(Path(one.subfolder).parts)].name for one in samples if not one.is_anomalous
    )
    defects = Counter(one.kind for one in samples if one.is_anomalous)
    good_text, defect_text = (
        ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
        for counts in (good, defects)
    )
    logger.info("%s: taken for good: %s; for defects: %s", root, good_text, defect_text)


def _listed(files: Sequence[Path], root: Path) -> str:
    """How many files of each suffix, and the first: `2 .txt (notes/a.txt), 1 .png (val/1.png)`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.suffix.lower() or "without suffix"].append(file)
    listed = [f"{len(group)} {name} ({group[0].relative_to(root)})" for name, group in groups.items()]
    return ", ".join(listed) or "nothing"


def _name(category: Path) -> str:
    """Raises DataError for a name that is no text: it could not be saved when training is done."""
    try:
        category.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(category)!r}: the name of a category must be UTF-8") from error
    return composed(category.name)


def _stem(path: Path, folder: Path) -> str:
    """What a picture and its mask have in common."""
    return composed(path.relative_to(folder).with_suffix("").as_posix())


def _key(name: str) -> str:
    return composed(name).casefold()


def _named(folder: Path, name: str) -> list[Path]:
    return [one for one in _folders(folder) if _key(one.name) == _key(name)]


def _folders(folder: Path) -> list[Path]:
    return [one for one in _visible(folder) if one.is_dir()]


def _pictures(folder: Path) -> list[Path]:
    return [one for one in _files(folder) if one.suffix.lower() in SUFFIXES.split()]


def _files(folder: Path, around: tuple[Path, ...] = ()) -> list[Path]:
    """All visible files in a folder and those below, in order; around: the folders that it lies in."""
    inside = (*around, folder.resolve())
    found: list[Path] = []
    for entry in _visible(folder):
        if not entry.is_dir():
            found.append(entry)
        elif entry.resolve() not in inside:  # else a link in a circle
            found += _files(entry, inside)
    return found


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
