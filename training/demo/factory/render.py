"""One demo picture and its mask.

Every seed has separate random streams for the parts, the ground, the light, the sensor and the defect, so
that a picture with and without its defect differ in the defect only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, label

from training.demo.drawing.canvas import Canvas
from training.demo.drawing.defects import MARKS
from training.demo.drawing.shapes import Array
from training.demo.drawing.variation import Variation
from training.demo.factory.parts import Parts, assembled
from training.demo.factory.product import Product
from training.demo.factory.registry import find_product

Mask: TypeAlias = NDArray[np.uint8]

# Keys of the random streams.
PARTS, GROUND, LIGHT, SENSOR, DEFECT = range(5)

# Differences in 0..1 of the light on the sensor: changed at all, and plain to an inspector.
CHANGED = 0.035
PLAIN = 0.13
LEAST_PLAIN_AREA = 45 / 256**2
ATTEMPTS = 16


def render(
    product: str, seed: int, defect: str | None = None, *, size: int = 256
) -> tuple[Image.Image, Mask]:
    """One picture (RGB, size x size) and its mask (size, size) of 0 and 255, empty without a defect.

    Raises ValueError for an unknown product or defect kind, or a seed that no visible defect fits.
    """
    model = find_product(product)
    if defect is not None and defect not in model.kinds:
        raise ValueError(f"defect {defect!r} of {product} is not one of {', '.join(model.kinds)}")
    parts = assembled(model.slots, _stream(seed, PARTS))
    good = _exposed(model, seed, size, parts)
    if defect is None:
        return _developed(good, seed), np.zeros((size, size), np.uint8)
    for attempt in range(ATTEMPTS):
        exposed = _defective(model, seed, size, parts, defect, attempt)
        difference = np.abs(np.clip(exposed, 0, 1) - np.clip(good, 0, 1)).max(axis=0)
        # A defect that nobody could see (a dark line on a black part) is drawn again elsewhere.
        if (difference > PLAIN).mean() > LEAST_PLAIN_AREA:
            return _developed(exposed, seed), _mask(difference, whole_parts=defect not in MARKS)
    raise ValueError(f"no visible {defect} on {product} with seed {seed} in {ATTEMPTS} attempts")


def _defective(product: Product, seed: int, size: int, parts: Parts, defect: str, attempt: int) -> Array:
    rng = _stream(seed, DEFECT, attempt)
    if defect not in MARKS:
        return _exposed(product, seed, size, product.changes[defect](parts, rng))
    x, y = rng.uniform(-1, 1, 2).tolist()
    centre = (x * product.area[0], y * product.area[1])
    return _exposed(product, seed, size, parts, lambda canvas: MARKS[defect](canvas, centre, rng))


def _exposed(
    product: Product, seed: int, size: int, parts: Parts, mark: Callable[[Canvas], None] | None = None
) -> Array:
    """The lit, noise-free picture (3, size, size); `mark` is painted over the finished product."""
    ground_rng, variation = _stream(seed, GROUND), _variation(seed)
    u, v = variation.coordinates(size, product.warp, ground_rng)
    canvas = Canvas(np.empty((3, size, size), np.float32), u, v, variation.pose, variation.light)
    product.ground(canvas, ground_rng)
    for part in parts:
        product.painters[part.kind](canvas, part)
    if mark is not None:
        mark(canvas)
    return variation.expose(canvas.pixels)


def _developed(exposed: Array, seed: int) -> Image.Image:
    return Image.fromarray(_variation(seed).develop(exposed, _stream(seed, SENSOR)))


def _variation(seed: int) -> Variation:
    return Variation.sample(_stream(seed, LIGHT))


def _stream(seed: int, *key: int) -> Generator:
    return default_rng(SeedSequence(seed, spawn_key=key))


def _mask(difference: Array, *, whole_parts: bool) -> Mask:
    """The changed pixels, closed over one-pixel gaps and without specks; whole parts have no holes."""
    changed = binary_closing(np.pad(difference > CHANGED, 2))[2:-2, 2:-2]
    if whole_parts:
        changed = binary_fill_holes(changed)
    regions, _ = cast("tuple[NDArray[np.int32], int]", label(changed, structure=np.ones((3, 3))))
    areas = np.bincount(regions.ravel())
    kept = areas >= max(4, 0.04 * areas[1:].max())
    kept[0] = False
    return kept[regions].astype(np.uint8) * 255
