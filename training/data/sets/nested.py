"""Kinds whose folder holds one of pictures and one of masks: MVTec 3D-AD and BMAD.

`<category>/<split>/<kind>/{rgb,xyz,gt}`, of which only the colour pictures are read, or
`<category>/{train,valid,test}/{good,Ungood}/{img,label}`.
"""

from collections.abc import Callable
from pathlib import Path

from export.contract.names import composed
from training.data.sets.listing import by_stem, category_name, folders_in, named, pictures_in, stem
from training.data.sets.mvtec import is_good
from training.data.sets.samples import GOOD, Form, Sample, Split

_SPLITS: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def _kinds(category: Path) -> list[tuple[Split, Path]]:
    return [
        (split, kind)
        for name, split in _SPLITS.items()
        for place in named(category, name)
        for kind in folders_in(place)
    ]


def _fits(pictures: str, beside: tuple[str, ...]) -> Callable[[Path], bool]:
    def fits(folder: Path) -> bool:
        return any(named(kind, pictures) and named(kind, *beside) for _, kind in _kinds(folder))

    return fits


def _read(pictures: str, masks: str) -> Callable[[Path], list[Sample]]:
    def read(folder: Path) -> list[Sample]:
        return [
            sample
            for split, kind in _kinds(folder)
            for place in named(kind, pictures)
            for sample in _read_kind(category_name(folder), split, kind, place, masks)
        ]

    return read


def _read_kind(category: str, split: Split, kind: Path, pictures: Path, masks: str) -> list[Sample]:
    if is_good(kind):  # its masks are black
        return [Sample(path, category, split, GOOD, (), is_anomalous=False) for path in pictures_in(pictures)]
    found = {name: path for folder in named(kind, masks) for name, path in by_stem(folder).items()}
    return [
        Sample(path, category, split, composed(kind.name), (mask,) if mask else (), is_anomalous=True)
        for path in pictures_in(pictures)
        for mask in [found.get(stem(path, pictures))]
    ]


MVTEC_3D = Form(
    f"train/{GOOD}/rgb and test/<kind>/{{rgb,gt}}", _fits("rgb", ("gt", "xyz")), _read("rgb", "gt")
)
BMAD = Form(
    f"train/{GOOD}/img and test/{{{GOOD},Ungood}}/{{img,label}}",
    _fits("img", ("label",)),
    _read("img", "label"),
)
