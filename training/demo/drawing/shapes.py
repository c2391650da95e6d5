"""Signed distance fields: shapes as functions of coordinates, negative inside.

Coordinates and lengths are in picture sides: 1.0 is the width of the picture at scale 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating]
Point: TypeAlias = tuple[float, float]
Shape: TypeAlias = Callable[[Array, Array], Array]


def disc(radius: float) -> Shape:
    """A disc around the origin."""
    return lambda u, v: np.sqrt(u * u + v * v) - radius


def box(half_width: float, half_height: float, corner: float = 0.0) -> Shape:
    """A rectangle around the origin with corners rounded to radius `corner`."""
    if corner == 0:
        # Outside a sharp corner this is too short a distance, which antialiasing does not notice.
        return lambda u, v: np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)

    def distance(u: Array, v: Array) -> Array:
        du = np.abs(u) - (half_width - corner)
        dv = np.abs(v) - (half_height - corner)
        outside = np.sqrt(np.maximum(du, 0) ** 2 + np.maximum(dv, 0) ** 2)
        return outside + np.minimum(np.maximum(du, dv), 0) - corner

    return distance


def polygon(sides: int, radius: float) -> Shape:
    """A regular polygon around the origin; `radius` reaches the middle of a side."""
    angles = [2 * math.pi * side / sides for side in range(sides)]

    def distance(u: Array, v: Array) -> Array:
        return np.max([math.cos(angle) * v - math.sin(angle) * u for angle in angles], axis=0) - radius

    return distance


def stroke(points: Sequence[Point], widths: Sequence[float]) -> Shape:
    """A bent line through `points`, each with its own width."""

    def segment(u: Array, v: Array, index: int) -> Array:
        (x, y), (end_x, end_y) = points[index], points[index + 1]
        du, dv = end_x - x, end_y - y
        along = np.clip(((u - x) * du + (v - y) * dv) / (du * du + dv * dv), 0, 1)
        width = widths[index] + along * (widths[index + 1] - widths[index])
        return np.sqrt((u - x - along * du) ** 2 + (v - y - along * dv) ** 2) - width / 2

    return lambda u, v: np.min([segment(u, v, index) for index in range(len(points) - 1)], axis=0)


def outline(shape: Shape, width: float) -> Shape:
    """The border line of a shape, centred on its edge."""
    return lambda u, v: np.abs(shape(u, v)) - width / 2


def moved(shape: Shape, x: float, y: float) -> Shape:
    """The shape with its origin at (x, y)."""
    return lambda u, v: shape(u - x, v - y)


def repeated(shape: Shape, columns: int, rows: int, pitch: float) -> Shape:
    """A grid of copies, `pitch` apart, around the origin."""

    def folded(line: Array, count: int) -> Array:
        start = -(count - 1) / 2
        return line - pitch * (start + np.clip(np.rint(line / pitch - start), 0, count - 1))

    return lambda u, v: shape(folded(u, columns), folded(v, rows))


def union(*shapes: Shape) -> Shape:
    """All points inside at least one of the shapes."""
    return lambda u, v: np.min([shape(u, v) for shape in shapes], axis=0)


def intersection(*shapes: Shape) -> Shape:
    """All points inside every one of the shapes."""
    return lambda u, v: np.max([shape(u, v) for shape in shapes], axis=0)
