"""Random fields and lines that make two pictures of one product differ."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

from training.demo.drawing.shapes import Array


def smooth_noise(rng: Generator, size: int, cells: int) -> Array:
    """Noise of about unit deviation with `cells` hills a side, as (size, size).

    The coarse grid is drawn before it is enlarged, so one seed looks alike at every size.
    """
    grid = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    enlarged = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32)


def grain(rng: Generator, size: int) -> Array:
    """Two octaves of noise for rough ground, as (size, size)."""
    return smooth_noise(rng, size, 12) * 0.6 + smooth_noise(rng, size, 90) * 0.4


def threads(rng: Generator, positions: Array, irregularity: float) -> Array:
    """A random brightness for each thread; `positions` count the threads along one axis."""
    shades = rng.normal(0.0, irregularity, 256).astype(np.float32)
    index = np.floor(positions).astype(np.int32) & 255
    return shades[index]
