"""MVTec AD 2: a public test set with its own ground truth; the private ones, without labels, are left out."""

from dataclasses import replace
from pathlib import Path

from training.data.sets.listing import by_stem, category_name, named, pictures_in, stem
from training.data.sets.mvtec import is_good
from training.data.sets.samples import GOOD, Form, Sample, Split


def _fits(folder: Path) -> bool:
    return bool(named(folder, "test_public"))


def _read(folder: Path) -> list[Sample]:
    parts: tuple[tuple[str, Split], ...] = (
        ("train", "train"),
        ("validation", "validation"),
        ("test_public", "test"),
    )
    return [
        sample
        for name, split in parts
        for place in named(folder, name)
        for kind in named(place, GOOD, "bad")
        for sample in _read_kind(folder, split, kind)
    ]


def _read_kind(category: Path, split: Split, kind: Path) -> list[Sample]:
    name = category_name(category)
    good = [Sample(path, name, split, GOOD, (), is_anomalous=False) for path in pictures_in(kind)]
    if is_good(kind):
        return good
    masks = {
        name.removesuffix("_mask"): path
        for truth in named(kind.parent, "ground_truth")
        for folder in named(truth, kind.name)
        for name, path in by_stem(folder).items()
    }
    return [
        replace(one, kind="bad", is_anomalous=True, mask_paths=(mask,) if mask else ())
        for one in good
        for mask in [masks.get(stem(one.path, kind))]
    ]


MVTEC_AD2 = Form(
    f"train/{GOOD}, validation/{GOOD}, test_public/{{{GOOD},bad}}, test_public/ground_truth/bad", _fits, _read
)
