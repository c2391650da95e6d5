from __future__ import annotations

import numpy as np
import pytest

from training.demo.drawing.shapes import (
    Shape,
    box,
    disc,
    intersection,
    moved,
    outline,
    polygon,
    repeated,
    stroke,
    union,
)


def distance(shape: Shape, u: float, v: float) -> float:
    return float(shape(np.array([[u]], np.float32), np.array([[v]], np.float32))[0, 0])


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        (disc(0.2), (0.1, 0.1), (0.2, 0.2)),
        (box(0.3, 0.1), (0.29, 0.09), (0.0, 0.11)),
        (box(0.3, 0.1, 0.05), (0.25, 0.05), (0.295, 0.095)),
        (polygon(3, 0.1), (0.0, -0.19), (0.15, -0.1)),
        (stroke([(0, 0), (0.2, 0), (0.2, 0.2)], [0.04, 0.04, 0.04]), (0.21, 0.1), (0.1, 0.1)),
        (moved(disc(0.1), 0.5, 0.0), (0.45, 0.0), (0.0, 0.0)),
        (outline(disc(0.2), 0.02), (0.205, 0.0), (0.0, 0.0)),
        (union(disc(0.1), moved(disc(0.1), 0.5, 0.0)), (0.5, 0.05), (0.25, 0.0)),
        (intersection(disc(0.1), moved(disc(0.1), 0.1, 0.0)), (0.05, 0.0), (-0.05, 0.0)),
    ],
)
def test_distance_is_negative_inside_only(
    shape: Shape, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    assert distance(shape, *inside) < 0 < distance(shape, *outside)


def test_distance_is_measured_from_the_edge() -> None:
    assert distance(disc(0.2), 0.5, 0.0) == pytest.approx(0.3)
    assert distance(box(0.1, 0.1, 0.02), 0.25, 0.0) == pytest.approx(0.15)


def test_a_tapered_stroke_is_thinner_at_its_end() -> None:
    line = stroke([(0.0, 0.0), (1.0, 0.0)], [0.1, 0.02])
    assert distance(line, 0.0, 0.03) < 0 < distance(line, 0.95, 0.03)


def test_repeated_places_the_copies_evenly_around_the_origin() -> None:
    row = repeated(disc(0.01), 4, 1, 0.1)
    centres = [u for u in np.linspace(-0.3, 0.3, 61) if distance(row, float(u), 0.0) < -0.009]
    assert centres == pytest.approx([-0.15, -0.05, 0.05, 0.15])
