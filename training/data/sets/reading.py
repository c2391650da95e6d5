"""The pictures under a folder: which forms and sets lie there, what was taken for what, what is left."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from export.contract.names import composed
from training.data.sets.known import DataSet, find_known, known, shortfall
from training.data.sets.listed import HEAD_CT, META
from training.data.sets.listing import SUFFIXES, category_name, files_in, folders_in, listed, pictures_in
from training.data.sets.mvtec import GOOD_NAMES, MVTEC, taken_for_good
from training.data.sets.mvtec_ad2 import MVTEC_AD2
from training.data.sets.nested import BMAD, MVTEC_3D
from training.data.sets.paired import PAIRED
from training.data.sets.ped2 import PED2
from training.data.sets.samples import GOOD, DataError, Form, Sample
from training.data.sets.visa import VISA

logger = logging.getLogger(__name__)

FORMS = (META, VISA, HEAD_CT, PED2, MVTEC_AD2, MVTEC_3D, BMAD, MVTEC, PAIRED)  # the plainer ones last
DEEPEST = 3  # folders between the root and that of a category: <root>/<data set>/<archive's own>/<category>


class _Wishes(NamedTuple):
    """dataset: what all folders are said to be. class_names: descriptions of categories."""

    dataset: DataSet | None
    class_names: Mapping[str, str]


_wishes: ContextVar[_Wishes | None] = ContextVar("wishes", default=None)


@contextmanager
def read_as(dataset: str | None, class_names: Mapping[str, str]) -> Iterator[None]:
    """Within it, folders hold the known set of that name, and categories show what class_names say.

    Raises DataError for a set that is not known.
    """
    token = _wishes.set(_Wishes(known(dataset) if dataset else None, class_names))
    try:
        yield
    finally:
        _wishes.reset(token)


def read_folder(root: Path) -> list[Sample]:
    """All pictures of a folder in one of FORMS, of a folder of such, or of one with normal pictures only.

    What was taken for what is logged, what was passed over, and what a known set lacks. Raises DataError when
    nothing is found, and for a category that lies in two folders.
    """
    samples = _search(root, _wished() or find_known(root.name), DEEPEST)
    if not samples:
        pictures = [one for one in pictures_in(root) if one.parent == root]
        samples = [
            Sample(one, category_name(root), "train", GOOD, (), is_anomalous=False) for one in pictures
        ]
    if not samples:
        raise DataError(
            f"{root}: no pictures found; looked for {_expected()} in it and in its folders, "
            f"and for {SUFFIXES} files in it; passed over: {listed(files_in(root), root)}"
        )
    _log_kinds(root, samples)
    used = {path for one in samples for path in (one.path, *one.mask_paths)}
    if left := [one for one in files_in(root) if one not in used]:
        logger.warning("%s: passed over: %s", root, listed(left, root))
    _log_shortfalls(root, samples)
    return samples


def described(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with what is known of them, or wished. Raises DataError for a wish without pictures."""
    names = ((wishes := _wishes.get()) and wishes.class_names) or {}
    if unknown := set(names) - {one.category for one in samples}:
        raise DataError(f"class names: no category {', '.join(sorted(unknown))} among the pictures")
    return [_described(one, _wished() or find_known(one.dataset), names) for one in samples]


def _described(sample: Sample, dataset: DataSet | None, names: Mapping[str, str]) -> Sample:
    if dataset is None and sample.category not in names:
        return sample
    own = dataset.description(sample.category) if dataset else ""
    name = dataset.name if dataset else ""
    return replace(sample, dataset=name, description=names.get(sample.category, own))


def _wished() -> DataSet | None:
    wishes = _wishes.get()
    return wishes and wishes.dataset


def _search(folder: Path, dataset: DataSet | None, deeper: int) -> list[Sample]:
    """All pictures of a folder in one of FORMS, or of its folders; dataset: what it is a part of."""
    form = next((one for one in FORMS if one.fits(folder)), None)
    if form is not None:
        _check_form(folder, form)
        return _read(form, folder, dataset)
    found: list[Sample] = []
    places: dict[str, Path] = {}
    for place in folders_in(folder) if deeper else []:
        part = _search(place, _wished() or find_known(place.name) or dataset, deeper - 1)
        for category in dict.fromkeys(one.category for one in part):
            other = places.setdefault(category, place)
            if composed(other.name) != composed(place.name):
                raise DataError(
                    f"{folder}: category {category!r} lies in {other} and in {place}, "
                    "which would be taken for one product"
                )
        found += part
    return found


def _read(form: Form, folder: Path, dataset: DataSet | None) -> list[Sample]:
    if dataset is None:
        return form.read(folder)
    with taken_for_good(GOOD_NAMES):  # how a published set names its folders is known
        return [replace(one, dataset=dataset.name) for one in form.read(folder)]


def _check_form(folder: Path, form: Form) -> None:
    dataset = _wished()
    if dataset and form not in (dataset.form, MVTEC, META):
        raise DataError(
            f"{folder}: {dataset.name} is expected as {dataset.form.expected}, or in MVTec form, found "
            f"{form.expected}"
        )


def _expected() -> str:
    dataset = _wished()
    forms = (dataset.form, MVTEC, META) if dataset else (MVTEC, *(one for one in FORMS if one is not MVTEC))
    return "; or ".join(dict.fromkeys(form.expected for form in forms))


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


def _log_shortfalls(root: Path, samples: Sequence[Sample]) -> None:
    """Tell of known sets whose numbers are not the published ones: a part is easily taken for all."""
    by_set: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        by_set[one.dataset].append(one)
    for name, members in by_set.items():
        dataset = find_known(name)
        missing = dataset and shortfall(dataset, members)
        if missing:
            logger.warning("%s: not the whole of %s: %s", root, name, missing)
