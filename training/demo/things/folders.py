"""Pictures with masks for MoECLIP, in the MVTec folder form: data sets for training, validation and test."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.random import default_rng
from PIL import Image

from training.demo.things.damages import DAMAGES
from training.demo.things.scene import Drawn, Thing, draw
from training.demo.things.split import NOVEL, TEST, TRAINING, VALIDATION


@dataclass(frozen=True)
class Counts:
    """Pictures of each thing: whole ones to calibrate on, whole ones to test, damaged ones of each kind."""

    train_good: int = 0
    test_good: int = 24
    test_damaged: int = 6

    def folders(self) -> Sequence[tuple[str, str | None, int]]:
        """(split, damage, pictures) of each folder."""
        damaged = (("test", damage, self.test_damaged) for damage in DAMAGES)
        return ("train", None, self.train_good), ("test", None, self.test_good), *damaged


DATA_SETS: Mapping[str, tuple[tuple[Thing, ...], Counts]] = {
    "training": (TRAINING, Counts(test_good=3, test_damaged=5)),
    "validation": (VALIDATION, Counts()),
    "test": (TEST, Counts(train_good=40)),
    "novel": (NOVEL, Counts()),
}


def make_folders(
    root: Path,
    seed: int = 0,
    data_sets: Mapping[str, tuple[tuple[Thing, ...], Counts]] = DATA_SETS,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `<root>/<data set>/<material>_<form>/{train/good, test/<damage>, ground_truth/<damage>}`."""
    pictures = [
        _Picture(name, thing, split, damage, index)
        for name, (things, counts) in data_sets.items()
        for thing in things
        for split, damage, number in counts.folders()
        for index in range(number)
    ]
    for done, picture in enumerate(pictures, start=1):
        _write(root / picture.data_set, picture, seed)
        if progress is not None:
            progress(done, len(pictures))


@dataclass(frozen=True)
class _Picture:
    data_set: str
    thing: Thing
    split: str
    damage: str | None
    index: int

    @property
    def kind(self) -> str:
        """Name of the folder."""
        return "good" if self.damage is None else self.damage.replace(" ", "_")

    def drawn(self, base: int) -> Drawn:
        """The first of its seeds that shows its damage; it does not depend on how many others there are."""
        name = zlib.crc32(f"{self.thing.name}/{self.split}/{self.kind}".encode())
        rng = default_rng((base, name, self.index))
        for _ in count():
            try:
                return draw(self.thing, int(rng.integers(2**62)), self.damage)
            except ValueError:
                continue  # this damage cannot be seen on this one
        raise AssertionError


def _write(root: Path, picture: _Picture, seed: int) -> None:
    drawn = picture.drawn(seed)
    folder = root / picture.thing.name.replace(" ", "_")
    _save(drawn.picture, folder / picture.split / picture.kind / f"{picture.index:03d}.png")
    if picture.damage is not None:
        mask = drawn.mask.astype(np.uint8) * 255
        _save(mask, folder / "ground_truth" / picture.kind / f"{picture.index:03d}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=2)
