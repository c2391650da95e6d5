"""Charts: where points lie, and what is written on them."""

import numpy as np

from training.figures.chart import HEIGHT, WIDTH, Chart


def test_points_lie_between_the_ends() -> None:
    chart = Chart("loss", {"one": [(0, 1.0), (10, 3.0)], "two": [(5, 2.0)]})
    (left, low), (right, high) = chart.place((0, 1.0)), chart.place((10, 3.0))
    assert 0 < left < right < WIDTH
    assert 0 < high < low < HEIGHT
    assert chart.place((5, 2.0)) == ((left + right) // 2, (low + high) // 2)


def test_curves_have_colours_of_their_own() -> None:
    drawn = np.asarray(
        Chart("a", {"one": [(0, 0), (1, 0)], "two": [(0, 1), (1, 1)]}, {0: "x", 1: "y"}).draw()
    )
    assert (drawn == (0x1F, 0x5F, 0xA8)).all(-1).any()
    assert (drawn == (0xC8, 0x50, 0x1E)).all(-1).any()


def test_a_level_curve_is_drawn() -> None:
    assert Chart("level", {"one": [(0, 2.0), (0, 2.0)]}).draw().size == (WIDTH, HEIGHT)
