"""A canvas in product coordinates: antialiased fills, domes with highlights, cast shadows.

Pixels are channel first, (3, H, W): NumPy is several times faster when the long axis comes last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from training.demo.drawing.shapes import Array, Point, Shape
from training.demo.drawing.variation import Pose

Colour: TypeAlias = tuple[float, float, float]


def shaded(colour: Colour, tone: Array) -> Array:
    """The colour times a brightness field (h, w), as (3, h, w)."""
    return _channels(colour) * tone


def _channels(colour: Colour) -> Array:
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


@dataclass(frozen=True)
class Region:
    """A window of the canvas with coordinates around its own centre; painting writes through."""

    pixels: Array
    u: Array
    v: Array
    pixel: float
    light: Point
    angle: float

    def cover(self, distance: Array, softness: float = 0.0) -> Array:
        """Share of each pixel inside the shape, (h, w); the edge is one pixel plus `softness` wide."""
        return np.clip(0.5 - distance / (self.pixel + softness), 0, 1)

    def fill(self, shape: Shape, colour: Colour | Array, opacity: float = 1.0) -> None:
        """Paint one colour, or a field of colours (3, h, w)."""
        cover = opacity * self.cover(shape(self.u, self.v))
        self.blend(cover, _channels(colour) if isinstance(colour, tuple) else colour)

    def blend(self, cover: Array, colours: Array) -> None:
        """Mix colours (3, h, w) in, by a cover (h, w) in 0..1."""
        self.pixels[...] += cover * (colours - self.pixels)

    def dye(self, shape: Shape, ratio: Colour, softness: float = 0.0) -> None:
        """Multiply by a colour, so that the texture underneath stays."""
        cover = self.cover(shape(self.u, self.v), softness)
        self.pixels[...] *= 1 + cover * (_channels(ratio) - 1)

    def shadow(self, shape: Shape, height: float, strength: float = 0.5) -> None:
        """Darken what lies behind a shape that stands `height` above the ground."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        du = (self.light[0] * cos + self.light[1] * sin) * height
        dv = (self.light[1] * cos - self.light[0] * sin) * height
        cover = self.cover(shape(self.u + du, self.v + dv), softness=height)
        self.pixels[...] *= 1 - strength * cover

    def dome(
        self, shape: Shape, colour: Colour, bevel: float, gloss: float = 0.0, relief: float = 0.4
    ) -> None:
        """Paint a body whose edge bends away over `bevel`, lit from the side, with a highlight of `gloss`.

        A negative `relief` is a hollow.
        """
        distance = shape(self.u, self.v)
        slope = np.clip(1 + distance / bevel, 0, 1)
        rise_y, rise_x = np.gradient(distance, self.pixel)
        normal_x, normal_y = rise_x * slope, rise_y * slope
        facing = normal_x * self.light[0] + normal_y * self.light[1]
        shine = (normal_x - 0.5 * self.light[0]) ** 2 + (normal_y - 0.5 * self.light[1]) ** 2
        lit = shaded(colour, 1 + relief * facing) + gloss * np.exp(-shine / 0.04)
        self.blend(self.cover(distance), lit)


@dataclass(frozen=True)
class Canvas:
    """A picture under way: pixels (3, H, W) in 0..1 and the product coordinates (H, W) of each pixel."""

    pixels: Array
    u: Array
    v: Array
    pose: Pose
    light: Point

    @property
    def size(self) -> int:
        """Side of the picture in pixels."""
        return self.pixels.shape[1]

    def whole(self) -> Region:
        """The full picture in product coordinates."""
        return Region(self.pixels, self.u, self.v, self._pixel(), self.light, 0.0)

    def around(self, x: float, y: float, half_width: float, half_height: float, angle: float = 0.0) -> Region:
        """The window that holds a part of this size, with a margin for its shadow.

        angle: of the part, radians; the window's coordinates turn with it.
        """
        column, row = self.pose.to_picture(x, y)
        cos, sin = abs(math.cos(self.pose.angle + angle)), abs(math.sin(self.pose.angle + angle))
        margin = 0.02
        reach_x = (half_width * cos + half_height * sin + margin) * self.pose.scale
        reach_y = (half_width * sin + half_height * cos + margin) * self.pose.scale
        rows, columns = self._slice(row, reach_y), self._slice(column, reach_x)
        u, v = self.u[rows, columns] - x, self.v[rows, columns] - y
        cos, sin = math.cos(angle), math.sin(angle)
        turned_u, turned_v = u * cos + v * sin, v * cos - u * sin
        return Region(self.pixels[:, rows, columns], turned_u, turned_v, self._pixel(), self.light, angle)

    def _pixel(self) -> float:
        return 1 / (self.size * self.pose.scale)

    def _slice(self, centre: float, reach: float) -> slice:
        # At least two pixels a side, so that gradients exist even for a part pushed out of the frame.
        start = min(max(int((centre - reach) * self.size), 0), self.size - 2)
        stop = min(int((centre + reach) * self.size) + 1, self.size)
        return slice(start, max(stop, start + 2))
