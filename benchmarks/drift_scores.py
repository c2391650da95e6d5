"""Scores and distances of real pictures of a product, as the service notes them; kept in a file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter
from rich.progress import track

from export.contract.preprocess import fit
from service.inference.anomalymoe import Engine, Picture
from training.demo.factory.registry import PRODUCTS
from training.demo.factory.render import render

NORMAL = "normal"
NEW_PRODUCT = "new product"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
FIRST_SEED = 50_000  # far from those of training and calibration
CHANGED = 3  # one normal picture in so many is scored dimmed and blurred too
BATCH = 8

Array = npt.NDArray[np.float64]


class Numbers(NamedTuple):
    """Scores and distances (n,) of pictures."""

    scores: Array
    distances: Array


Pool = Mapping[str, Numbers]
"""The numbers of a product's pictures: those that are normal, and by what has changed."""


def demo_pool(engine: Engine, product: str, count: int) -> Pool:
    """Of drawn pictures; the new product is another one of the demo under this one's name."""
    other = next(name for name in PRODUCTS if name != product)
    names = [product] * count + [other] * (count // CHANGED)
    pictures = [render(name, FIRST_SEED + seed, None)[0] for seed, name in enumerate(names)]
    return _pool(engine, product, pictures[:count], pictures[count:])


def folder_pool(engine: Engine, product: str, folder: Path, other: Path | None) -> Pool:
    """Of the pictures of a folder; those of the other one are the new product."""
    return _pool(engine, product, _read(folder), _read(other) if other else [])


def kept(file: Path, make: Callable[[], Mapping[str, Pool]]) -> Mapping[str, Pool]:
    """Pools by product from a file, which is written first where there is none."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            f"{product}/{kind}": np.stack(numbers)
            for product, pool in make().items()
            for kind, numbers in pool.items()
        }
        np.savez(file, allow_pickle=False, **arrays)
    pools: dict[str, dict[str, Numbers]] = {}
    with np.load(file) as stored:
        for key in stored.files:
            product, _, kind = key.rpartition("/")
            pools.setdefault(product, {})[kind] = Numbers(*stored[key])
    return pools


def _read(folder: Path) -> list[Image.Image]:
    files = sorted(one for one in folder.rglob("*") if one.suffix.lower() in ENDINGS)
    return [Image.open(file).convert("RGB") for file in files]


def _pool(
    engine: Engine, product: str, normal: Sequence[Image.Image], other: Sequence[Image.Image]
) -> dict[str, Numbers]:
    few = normal[::CHANGED]
    made = {
        NORMAL: normal,
        "15 % less light": [ImageEnhance.Brightness(one).enhance(0.85) for one in few],
        "blur": [one.filter(ImageFilter.GaussianBlur(1.5)) for one in few],
        NEW_PRODUCT: other,
    }
    return {kind: _numbers(engine, pictures, product) for kind, pictures in made.items() if pictures}


def _numbers(engine: Engine, pictures: Sequence[Image.Image], product: str) -> Numbers:
    """Scores, the larger of image score and evidence of the distance, and distances."""
    category = engine.category(product)
    asked = [Picture(fit(one, engine.manifest.input), product) for one in pictures]
    found: list[tuple[float, float]] = []
    for start in track(range(0, len(asked), BATCH), f"scores of {product}"):
        for outcome in engine.run(asked[start : start + BATCH]):
            if isinstance(outcome, Exception):
                raise outcome
            score = max(outcome.raw_score, category.evidence(outcome.distance))
            found.append((score, outcome.distance))
    return Numbers(*np.array(found).T)
