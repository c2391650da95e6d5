from __future__ import annotations

import numpy as np
import pytest

from training.demo.drawing.canvas import Canvas, shaded
from training.demo.drawing.shapes import box, disc
from training.demo.drawing.variation import Pose

SIZE = 64


def blank(level: float = 0.5, *, pose: Pose | None = None) -> Canvas:
    pose = pose or Pose(shift=(0.0, 0.0), angle=0.0, scale=1.0)
    line = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    u, v = pose.to_product(line[None, :], line[:, None])
    return Canvas(np.full((3, SIZE, SIZE), level, np.float32), u, v, pose, light=(-1.0, 0.0))


def test_fill_covers_the_area_of_the_shape() -> None:
    canvas = blank(0.0)
    canvas.whole().fill(disc(0.25), (1.0, 0.5, 0.0))
    area = canvas.pixels.sum(axis=(1, 2)) / SIZE**2
    assert area == pytest.approx(np.pi * 0.25**2 * np.array([1.0, 0.5, 0.0]), rel=0.02)


def test_a_window_paints_as_the_whole_picture_does() -> None:
    pose = Pose(shift=(0.02, -0.03), angle=0.3, scale=0.9)
    whole, window = blank(pose=pose), blank(pose=pose)
    whole.whole().fill(lambda u, v: box(0.1, 0.05)(u - 0.2, v + 0.1), (1.0, 0.0, 0.0))
    window.around(0.2, -0.1, 0.1, 0.05).fill(box(0.1, 0.05), (1.0, 0.0, 0.0))
    np.testing.assert_allclose(window.pixels, whole.pixels, atol=1e-5)


def test_a_turned_window_turns_the_shape() -> None:
    canvas = blank(0.0)
    canvas.around(0.0, 0.0, 0.3, 0.05, angle=np.pi / 2).fill(box(0.3, 0.05), (1.0, 1.0, 1.0))
    rows, columns = np.nonzero(canvas.pixels[0] > 0.5)
    assert np.ptp(rows) > 3 * np.ptp(columns)


def test_a_window_outside_the_picture_can_be_painted() -> None:
    canvas = blank()
    canvas.around(2.0, 2.0, 0.05, 0.05).dome(disc(0.05), (1.0, 1.0, 1.0), 0.02)
    assert np.isfinite(canvas.pixels).all()


def test_a_shadow_falls_away_from_the_light() -> None:
    canvas = blank()
    canvas.whole().shadow(disc(0.1), 0.1)
    dark = (0.5 - canvas.pixels[0]).sum(axis=0)
    assert dark[SIZE // 2 :].sum() > 2 * dark[: SIZE // 2].sum() > 0


def test_a_dome_is_brighter_towards_the_light_and_a_hollow_darker() -> None:
    hill, hollow = blank(), blank()
    hill.whole().dome(disc(0.3), (0.5, 0.5, 0.5), 0.2)
    hollow.whole().dome(disc(0.3), (0.5, 0.5, 0.5), 0.2, relief=-0.4)
    left, right = SIZE // 2 - 15, SIZE // 2 + 15
    middle = SIZE // 2
    assert hill.pixels[0, middle, left] > hill.pixels[0, middle, right]
    assert hollow.pixels[0, middle, left] < hollow.pixels[0, middle, right]


def test_dye_keeps_the_texture() -> None:
    canvas = blank()
    canvas.pixels[:, ::2] = 0.25
    canvas.whole().dye(box(1.0, 1.0), (0.5, 1.0, 1.0))
    assert canvas.pixels[0, 0, 0] == pytest.approx(0.125)
    assert canvas.pixels[0, 1, 0] == pytest.approx(0.25)
    assert canvas.pixels[1, 1, 0] == pytest.approx(0.5)


def test_shaded_multiplies_the_colour_by_the_tone() -> None:
    field = shaded((1.0, 0.5, 0.25), np.array([[1.0, 2.0]], np.float32))
    np.testing.assert_allclose(field[:, 0], [[1, 2], [0.5, 1], [0.25, 0.5]])
