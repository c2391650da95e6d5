"""Panels as drawings: lines that are there, numbers in their unit, and words instead of nothing."""

from xml.etree import ElementTree

import pytest
from draw import Line, drawing, shown
from panels import Panel, tile

GRAPH = Panel("A & B", "", "s", (("up", "{{instance}}"),))
PLACE = (0, 0, 600, 220)


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(f"<svg>{svg}</svg>").iter("text")]


def test_lines_lie_within_their_frame() -> None:
    svg = drawing(GRAPH, [Line("one", [(0, 0.0), (10, 0.5), (20, 2.0)])], PLACE)
    assert texts(svg) == ["A & B", "2 s", "0 ms", "one"]
    (line,) = ElementTree.fromstring(f"<svg>{svg}</svg>").iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points[0][1] > points[1][1] > points[2][1]
    assert all(0 < x < 600 and 0 < y < 220 for x, y in points)


def test_without_lines_there_was_no_traffic() -> None:
    assert "no traffic" in texts(drawing(GRAPH, [Line("one", [])], PLACE))


@pytest.mark.parametrize(("value", "colour"), [(0.5, "#299c46"), (1.0, "#e02f44")])
def test_a_tile_is_red_from_its_limit_on(value: float, colour: str) -> None:
    svg = drawing(tile("T", "", "percentunit", "up", 1), [Line("a", [(0, value)])], PLACE)
    assert f'fill="{colour}" font-size="28">{shown(value, "percentunit")}' in svg
