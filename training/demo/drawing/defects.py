"""Structural defects: scratch, crack and stain, painted over the finished product.

Each takes the canvas, a centre in product coordinates and its own random generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from training.demo.drawing.canvas import Canvas, Colour, shaded
from training.demo.drawing.shapes import Point, Shape, stroke, union
from training.demo.drawing.texture import smooth_noise

Mark: TypeAlias = Callable[[Canvas, Point, Generator], None]


def scratch(canvas: Canvas, centre: Point, rng: Generator) -> None:
    """A thin bent line, bright on a dark ground and dark on a bright one."""
    length, bend = float(rng.uniform(0.12, 0.28)), float(rng.uniform(-0.35, 0.35))
    heading = float(rng.uniform(0, math.pi))
    steps = np.linspace(-0.5, 0.5, 7)
    headings = heading + bend * steps
    points = walk(centre, headings, length / len(steps))
    width = float(rng.uniform(0.007, 0.01))
    widths = [width * (1 - 1.2 * abs(step)) for step in np.linspace(-0.5, 0.5, len(points))]
    _paint(
        canvas,
        points,
        stroke(points, widths),
        _contrast(canvas, centre, (0.93, 0.93, 0.9), (0.2, 0.19, 0.18)),
        0.8,
    )


def crack(canvas: Canvas, centre: Point, rng: Generator) -> None:
    """A jagged branching line, dark, or pale where the ground itself is dark."""
    length, heading = float(rng.uniform(0.14, 0.26)), float(rng.uniform(0, 2 * math.pi))
    trunk = walk(centre, heading + rng.normal(0, 0.5, 9), length / 9)
    branches = [
        branch(trunk[index], heading, length, rng) for index in rng.choice(np.arange(3, 8), 2, replace=False)
    ]
    width = float(rng.uniform(0.009, 0.013))
    lines = [trunk, *branches]
    shape = union(*(stroke(line, tapered(len(line), width)) for line in lines))
    everything = [point for line in lines for point in line]
    _paint(canvas, everything, shape, _contrast(canvas, centre, (0.78, 0.76, 0.72), (0.05, 0.05, 0.06)), 0.9)


def stain(canvas: Canvas, centre: Point, rng: Generator) -> None:
    """A soft irregular blob: brown on a bright ground, pale residue on a dark one."""
    radius, stretch = float(rng.uniform(0.035, 0.065)), float(rng.uniform(0.7, 1.0))
    colour = _contrast(canvas, centre, (0.75, 0.73, 0.66), (0.24, 0.15, 0.07))
    region = canvas.around(*centre, 2 * radius, 2 * radius, float(rng.uniform(0, math.pi)))
    noise = smooth_noise(rng, 64, 7)
    rows = np.clip((region.v / radius + 2) * 16, 0, 63).astype(np.int32)
    columns = np.clip((region.u / radius + 2) * 16, 0, 63).astype(np.int32)
    distance = np.sqrt(region.u**2 + (region.v / stretch) ** 2) + 0.2 * radius * noise[rows, columns]
    body = np.clip((radius - distance) / (0.35 * radius) + 0.5, 0, 1)
    # A dried drop leaves most of its pigment at the rim.
    rim = np.exp(-(((distance - 0.85 * radius) / (0.2 * radius)) ** 2))
    region.blend(body * (0.5 + 0.25 * rim), shaded(colour, np.ones_like(body)))


MARKS: Mapping[str, Mark] = {
    "structural_scratch": scratch,
    "structural_crack": crack,
    "structural_stain": stain,
}


def walk(start: Point, headings: np.ndarray, step: float) -> list[Point]:
    """A path of equal steps, moved so that its middle is at `start`'s place."""
    x, y = np.cumsum(np.cos(headings) * step), np.cumsum(np.sin(headings) * step)
    xs, ys = np.concatenate([[0], x]), np.concatenate([[0], y])
    xs, ys = xs - xs.mean() + start[0], ys - ys.mean() + start[1]
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def branch(root: Point, heading: float, length: float, rng: Generator) -> list[Point]:
    turn = float(rng.choice([-1, 1])) * float(rng.uniform(0.6, 1.1))
    steps = walk((0.0, 0.0), heading + turn + rng.normal(0, 0.4, 4), length / 10)
    first_x, first_y = steps[0]
    return [(x - first_x + root[0], y - first_y + root[1]) for x, y in steps]


def tapered(count: int, width: float) -> list[float]:
    return [width * (1 - 0.75 * index / (count - 1)) for index in range(count)]


def _contrast(canvas: Canvas, centre: Point, bright: Colour, dark: Colour) -> Colour:
    """The colour that stands out from the ground around `centre`."""
    ground = float(canvas.around(*centre, 0.03, 0.03).pixels.mean())
    return dark if ground > 0.45 else bright


def _paint(canvas: Canvas, points: list[Point], shape: Shape, colour: Colour, opacity: float) -> None:
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    centre, reach = (low + high) / 2, (high - low) / 2
    x, y = float(centre[0]), float(centre[1])
    region = canvas.around(x, y, float(reach[0]), float(reach[1]))
    region.fill(lambda u, v: shape(u + x, v + y), colour, opacity)
