"""The table of damages: each changes a painted body in place, around one point of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from training.demo.drawing.canvas import Colour, shaded
from training.demo.drawing.defects import branch, tapered, walk
from training.demo.drawing.shapes import Array, Point, Shape, stroke, union
from training.demo.drawing.texture import smooth_noise


@dataclass
class Body:
    """A painted thing before it lies on its ground.

    colours: (3, h, w); distance: (h, w), negative inside the outline; u, v: its coordinates; light: where it
    comes from, in those coordinates; pixel: length of one.
    """

    colours: Array
    distance: Array
    u: Array
    v: Array
    light: Point
    pixel: float

    def paint(self, shape: Shape, centre: Point, colour: Colour, opacity: float) -> None:
        """Fill a shape around `centre` with one colour."""
        cover = np.clip(0.5 - shape(self.u - centre[0], self.v - centre[1]) / self.pixel, 0, 1)
        self.blend(opacity * cover, colour)

    def blend(self, cover: Array, colour: Colour) -> None:
        """Mix one colour in, by a cover (h, w) in 0..1."""
        self.colours += cover * (shaded(colour, np.ones_like(cover)) - self.colours)

    def brightness(self, centre: Point) -> float:
        """Mean of the colours around `centre`."""
        near = (np.abs(self.u - centre[0]) < 0.04) & (np.abs(self.v - centre[1]) < 0.04)
        return float(self.colours[:, near].mean()) if near.any() else 0.5


Damage = Callable[[Body, Point, Generator], None]


def scratch(body: Body, centre: Point, rng: Generator) -> None:
    """A thin bent line, bright on dark and dark on bright."""
    steps = np.linspace(-0.5, 0.5, 6)
    points = walk((0, 0), rng.uniform(0, math.pi) + rng.uniform(-0.6, 0.6) * steps, rng.uniform(0.025, 0.05))
    width = float(rng.uniform(0.013, 0.022))
    widths = [width * (1.1 - abs(step)) for step in np.linspace(-0.5, 0.5, len(points))]
    colour = (0.16, 0.15, 0.15) if body.brightness(centre) > 0.5 else (0.92, 0.92, 0.9)
    body.paint(stroke(points, widths), centre, colour, float(rng.uniform(0.65, 0.95)))


def crack(body: Body, centre: Point, rng: Generator) -> None:
    """A jagged branching line, dark, or pale where the body itself is dark."""
    heading, step = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.024, 0.045))
    trunk = walk((0, 0), heading + rng.normal(0, 0.6, 7), step)
    lines = [trunk, *(branch(trunk[index], heading, 8 * step, rng) for index in (2, 5))]
    width = float(rng.uniform(0.016, 0.026))
    colour = (0.05, 0.05, 0.06) if body.brightness(centre) > 0.3 else (0.72, 0.7, 0.66)
    body.paint(union(*(stroke(line, tapered(len(line), width)) for line in lines)), centre, colour, 0.9)


def stain(body: Body, centre: Point, rng: Generator) -> None:
    """A soft irregular blob with a rim: brown or black on bright, pale on dark."""
    radius = float(rng.uniform(0.05, 0.1))
    distance = _ragged(body, centre, radius, 0.25, rng)
    dark = (0.25, 0.15, 0.07) if rng.random() < 0.6 else (0.1, 0.11, 0.1)
    colour = dark if body.brightness(centre) > 0.4 else (0.75, 0.73, 0.62)
    soft = np.clip(0.5 - distance / (0.3 * radius), 0, 1)
    rim = np.exp(-((distance / (0.2 * radius)) ** 2))
    body.blend(soft * (float(rng.uniform(0.45, 0.7)) + 0.25 * rim), colour)


def hole(body: Body, centre: Point, rng: Generator) -> None:
    """A round hole with a dark wall; what lies behind is seen through it."""
    radius = float(rng.uniform(0.04, 0.07))
    distance = _ragged(body, centre, radius, 0.06, rng)
    body.blend(np.clip(0.5 - (distance - 0.015) / body.pixel, 0, 1) * 0.75, (0.06, 0.06, 0.07))
    body.distance = np.maximum(body.distance, -distance)


def missing_piece(body: Body, centre: Point, rng: Generator) -> None:
    """A ragged piece broken out, with a rough bright face of fracture around."""
    radius = float(rng.uniform(0.06, 0.1))
    distance = _ragged(body, centre, radius, 0.3, rng)
    face = np.clip(0.5 - (distance - 0.025) / body.pixel, 0, 1) * 0.6
    colour = (0.9, 0.88, 0.84) if body.brightness(centre) < 0.6 else (0.4, 0.36, 0.32)
    body.blend(face, colour)
    body.distance = np.maximum(body.distance, -distance)


def dent(body: Body, centre: Point, rng: Generator) -> None:
    """A pushed-in place: dark towards the light, bright away from it."""
    radius, depth = float(rng.uniform(0.06, 0.1)), float(rng.uniform(0.9, 1.4))
    u, v = (body.u - centre[0]) / radius, (body.v - centre[1]) / radius * float(rng.uniform(0.8, 1.3))
    slope = np.exp(-1.5 * (u * u + v * v)) * (u * body.light[0] + v * body.light[1])
    body.colours *= np.clip(1 - 1.6 * depth * slope, 0.15, 2.2)
    body.colours += 0.18 * depth * np.maximum(-slope, 0)


DAMAGES: Mapping[str, Damage] = {
    "scratch": scratch, "crack": crack, "stain": stain, "hole": hole,
    "missing piece": missing_piece, "dent": dent,
}  # fmt: skip

AT_THE_EDGE = ("missing piece",)


def _ragged(body: Body, centre: Point, radius: float, roughness: float, rng: Generator) -> Array:
    """Signed distance to a roundish area with a rough edge."""
    noise = smooth_noise(rng, body.u.shape[0], 16)
    stretch = float(rng.uniform(0.75, 1.3))
    u, v = body.u - centre[0], (body.v - centre[1]) * stretch
    return np.sqrt(u * u + v * v) - radius + roughness * radius * noise
