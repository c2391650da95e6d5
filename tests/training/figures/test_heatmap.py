"""Heat maps: cells have the colour of their value, labels their room, and the scale its ends."""

import numpy as np
import pytest
from PIL import Image

from training.figures.heatmap import (
    HIGH_COLOUR,
    LOW_COLOUR,
    UNDEFINED,
    Colour,
    HeatMap,
    draw_below_each_other,
)
from training.figures.lettering import text_width

VALUES = np.array([[0.0, 0.5, 1.0], [np.nan, -3.0, 7.0]])
MIDDLE = tuple(round((low + high) / 2) for low, high in zip(LOW_COLOUR, HIGH_COLOUR, strict=True))


def ground(heat_map: HeatMap, image: Image.Image, row: int, column: int) -> object:
    """The colour in the upper left corner of a cell, where no number is written."""
    left, top, _, _ = heat_map.cell(row, column)
    return image.getpixel((left + 3, top + 3))


@pytest.fixture
def heat_map() -> HeatMap:
    return HeatMap("shares", ("disc", "square"), ("patch 0", "patch 1", "global 0"), VALUES)


@pytest.mark.parametrize(
    ("row", "column", "colour"),
    [
        (0, 0, LOW_COLOUR),
        (0, 1, MIDDLE),
        (0, 2, HIGH_COLOUR),
        (1, 0, UNDEFINED),
        (1, 1, LOW_COLOUR),
        (1, 2, HIGH_COLOUR),
    ],
)
def test_the_colour_of_a_cell_follows_its_value(
    heat_map: HeatMap, row: int, column: int, colour: Colour
) -> None:
    assert ground(heat_map, heat_map.draw(), row, column) == pytest.approx(colour, abs=1)


def test_the_ends_of_the_colours_are_those_of_the_map() -> None:
    heat_map = HeatMap("angles", ("a",), ("b",), np.array([[90.0]]), low=0.0, high=180.0)
    assert heat_map.colour(90.0) == MIDDLE
    assert heat_map.colour(180.0) == HIGH_COLOUR


def test_every_cell_holds_a_number_and_lies_inside_the_picture(heat_map: HeatMap) -> None:
    image = heat_map.draw()
    assert image.size == heat_map.size
    for row, column in np.ndindex(VALUES.shape):
        left, top, right, bottom = heat_map.cell(row, column)
        assert 0 < left < right < image.width
        assert 0 < top < bottom < image.height
        inside = np.asarray(image.crop((left + 2, top + 2, right - 2, bottom - 2)))
        assert (inside != inside[0, 0]).any(), "no number"


def test_rows_go_down_and_columns_to_the_right_without_gaps(heat_map: HeatMap) -> None:
    assert heat_map.cell(0, 0)[3] == heat_map.cell(1, 0)[1]
    assert heat_map.cell(0, 0)[2] == heat_map.cell(0, 1)[0]


def test_long_names_get_the_room_they_need() -> None:
    name = "a category with quite a long name"
    narrow, wide = (HeatMap("t", (row,), (row,), np.zeros((1, 1))) for row in ("a", name))
    left, _, right, _ = wide.cell(0, 0)
    assert right - left > text_width(name)
    assert left - narrow.cell(0, 0)[0] == text_width(name) - text_width("a")


def test_names_are_written_beside_the_cells(heat_map: HeatMap) -> None:
    pixels = np.asarray(heat_map.draw())
    left, top, right, bottom = heat_map.cell(1, 0)
    assert pixels[top:bottom, : left - 4].min() < 100
    first_top = heat_map.cell(0, 0)[1]
    assert pixels[first_top - 18 : first_top - 2, left:right].min() < 100
    assert pixels[: first_top - 22].min() < 100  # the title


def test_the_scale_runs_from_high_above_to_low_below(heat_map: HeatMap) -> None:
    image = heat_map.draw()
    _, top, right, _ = heat_map.cell(0, 2)
    bottom = heat_map.cell(1, 2)[3]
    column = [image.getpixel((right + 16 + 9, y)) for y in (top + 1, (top + bottom) // 2, bottom - 2)]
    for found, expected in zip(column, (HIGH_COLOUR, MIDDLE, LOW_COLOUR), strict=True):
        assert found == pytest.approx(expected, abs=10)


def test_heat_maps_are_put_below_each_other(heat_map: HeatMap) -> None:
    second = HeatMap("one", ("a",), ("b",), np.ones((1, 1)))
    sheet = draw_below_each_other([heat_map, second])
    assert sheet.size == (
        max(heat_map.size[0], second.size[0]),
        heat_map.size[1] + second.size[1],
    )
    left, top, _, _ = second.cell(0, 0)
    assert sheet.getpixel((left + 3, heat_map.size[1] + top + 3)) == HIGH_COLOUR
