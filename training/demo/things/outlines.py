"""Outlines that only single things have, beside those of the demo factory; signed distances like them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from training.demo.drawing.shapes import Array, Point, Shape


def without(shape: Shape, *holes: Shape) -> Shape:
    """The shape with holes cut out."""
    return lambda u, v: np.max([shape(u, v), *(-hole(u, v) for hole in holes)], axis=0)


def profile(points: Sequence[Point]) -> Shape:
    """A body of revolution seen from the side: (v, half width) from top to bottom."""
    heights, widths = np.array(points).T

    def distance(u: Array, v: Array) -> Array:
        ends = np.maximum(heights[0] - v, v - heights[-1])
        return np.maximum(np.abs(u) - np.interp(v, heights, widths).astype(np.float32), ends)

    return distance


def toothed(radius: float, depth: float, count: int, sharpness: float) -> Shape:
    """A disc whose edge rises `depth` in `count` teeth: at sharpness 1 a wave, far above it square ones."""

    def distance(u: Array, v: Array) -> Array:
        wave = np.clip(sharpness * np.sin(count * np.arctan2(v, u)), -1, 1)
        return np.sqrt(u * u + v * v) - radius - depth * wave

    return distance


def star(radius: float, points: int) -> Shape:
    """A star; `radius` reaches the points."""

    def distance(u: Array, v: Array) -> Array:
        sector = 2 * math.pi / points
        angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
        return 0.7 * (np.sqrt(u * u + v * v) * (np.cos(angle) + 1.35 * np.sin(angle)) - 0.92 * radius)

    return distance


def turned(shape: Shape, angle: float) -> Shape:
    """The shape turned by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return lambda u, v: shape(u * cos + v * sin, v * cos - u * sin)


def stretched(shape: Shape, factor: float) -> Shape:
    """The shape `factor` times as high (distances grow a little wrong)."""
    return lambda u, v: shape(u, v / factor)


def everywhere(u: Array, v: Array) -> Array:
    """A surface that fills the picture."""
    return np.full(np.broadcast_shapes(u.shape, v.shape), -1.0, np.float32)
