"""Demo pictures with known defects, in the MVTec folder form.

Every picture depends on its own seed only: the same seed gives the same bytes, however many pictures
are made beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from PIL import Image

from training.demo.factory.product import Product
from training.demo.factory.registry import PRODUCTS, find_product
from training.demo.factory.render import render


@dataclass(frozen=True)
class _Picture:
    """Which picture of the folder form; `kind` is "good" or a defect kind."""

    product: str
    split: str
    kind: str
    index: int

    def seed(self, base: int) -> int:
        name = zlib.crc32(f"{self.product}/{self.split}/{self.kind}".encode())
        return int(SeedSequence((base, name, self.index)).generate_state(1, np.uint64)[0])


def make_demo_data(  # noqa: PLR0913 -- the counts of the folder form are all free
    root: Path,
    *,
    seed: int = 0,
    train: int = 200,
    test_good: int = 60,
    test_defect: int = 30,
    size: int = 256,
    products: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `<root>/<product>/{train/good, test/<kind>, ground_truth/<kind>}` as PNG files.

    test_defect: pictures per defect kind; size: side in pixels; progress(done, total) after each picture.
    Raises ValueError for an unknown product.
    """
    models = [find_product(name) for name in (PRODUCTS if products is None else products)]
    pictures = [picture for model in models for picture in _pictures(model, train, test_good, test_defect)]
    for done, picture in enumerate(pictures, start=1):
        _write(root, picture, seed, size)
        if progress is not None:
            progress(done, len(pictures))


def _pictures(product: Product, train: int, test_good: int, test_defect: int) -> Iterator[_Picture]:
    counts = {("train", "good"): train, ("test", "good"): test_good}
    counts |= {("test", kind): test_defect for kind in product.kinds}
    for (split, kind), count in counts.items():
        for index in range(count):
            yield _Picture(product.name, split, kind, index)


def _write(root: Path, picture: _Picture, seed: int, size: int) -> None:
    defect = None if picture.kind == "good" else picture.kind
    image, mask = render(picture.product, picture.seed(seed), defect, size=size)
    folder = root / picture.product
    _save(image, folder / picture.split / picture.kind / f"{picture.index:03d}.png")
    if defect is not None:
        _save(Image.fromarray(mask), folder / "ground_truth" / picture.kind / f"{picture.index:03d}_mask.png")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Noise hardly compresses: a higher level costs time and gains little.
    image.save(path, compress_level=2)
