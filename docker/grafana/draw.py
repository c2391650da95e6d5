"""Draw a dashboard from a Prometheus' answers: `python docker/grafana/draw.py URL quality > quality.svg`."""

import json
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

from panels import DASHBOARDS, Panel

WIDTH, TILE, GRAPH, GAP = 600, 90, 220, 12
SECONDS = 600  # that are drawn, at most, up to now
STEPS = 120
MOST_LINES = 8
COLOURS = ("#3274d9", "#e02f44", "#299c46", "#ff9830", "#8f3bb8", "#00848c", "#b8860b", "#6b7280")
RED, GREEN = COLOURS[1], COLOURS[2]


class Line(NamedTuple):
    """A legend, and (seconds, value) points."""

    legend: str
    points: list[tuple[float, float]]


def answered(url: str, panel: Panel, now: float) -> list[Line]:
    """The lines of a panel."""
    return [line for expression, legend in panel.queries for line in _asked(url, expression, legend, now)]


def _asked(url: str, expression: str, legend: str, now: float) -> Iterator[Line]:
    asked = re.sub(r"\$(job|instance|product)", ".*", expression).replace("$__rate_interval", "1m")
    span = {"start": now - SECONDS, "end": now, "step": SECONDS / STEPS}
    with urlopen(f"{url}/api/v1/query_range?{urlencode({'query': asked, **span})}", timeout=30) as answer:
        series = json.load(answer)["data"]["result"]
    for one in series:
        labels = one["metric"]
        told = re.sub(r"{{(\w+)}}", lambda found, of=labels: of.get(found[1], ""), legend)
        points = [(float(at), float(value)) for at, value in one["values"]]
        yield Line(told, [point for point in points if math.isfinite(point[1])])


def shown(value: float, unit: str) -> str:
    """A value in its unit, short."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}" + {"reqps": " /s", "ops": " /s"}.get(unit, "")


def drawing(panel: Panel, lines: Sequence[Line], place: tuple[int, int, int, int]) -> str:
    """One panel in a frame (x, y, width, height)."""
    x, y, width, height = place
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="white" stroke="#ccc"/>'
    title = _text(x + 8, y + 18, panel.title, "#111", 13)
    lines = [line for line in lines if line.points]
    if not lines:
        return frame + title + _text(x + 8, y + height // 2, "no traffic", "#888", 16)
    if panel.kind == "stat":
        return frame + title + _number(panel, lines, x, y)
    return frame + title + _graph(panel, lines[:MOST_LINES], place)


def _number(panel: Panel, lines: Sequence[Line], x: int, y: int) -> str:
    worst = max(lines, key=lambda line: line.points[-1][1])
    value = worst.points[-1][1]
    colour = RED if panel.limit is not None and value >= panel.limit else GREEN
    return _text(x + 8, y + 56, shown(value, panel.unit), colour, 28) + _text(
        x + 8, y + 78, worst.legend, "#666", 11
    )


def _graph(panel: Panel, lines: Sequence[Line], place: tuple[int, int, int, int]) -> str:
    x, y, width, height = place
    left, top, right, bottom = x + 62, y + 28, x + width - 8, y + height - 16 - 13 * math.ceil(len(lines) / 2)
    times = [at for line in lines for at, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    first, last, low, high = min(times), max(times), min(0.0, *values), max(*values, 1e-9)
    parts = [
        _text(x + 6, top + 8, shown(high, panel.unit), "#666", 11),
        _text(x + 6, bottom, shown(low, panel.unit), "#666", 11),
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#bbb"/>',
    ]
    for number, line in enumerate(lines):
        points = " ".join(
            f"{left + (right - left) * (at - first) / max(last - first, 1):.1f},"
            f"{bottom - (bottom - top) * (value - low) / (high - low):.1f}"
            for at, value in line.points
        )
        colour = COLOURS[number]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        column, row = number % 2, number // 2
        parts.append(
            _text(left + column * (right - left) // 2, bottom + 16 + 13 * row, line.legend, colour, 11)
        )
    return "".join(parts)


def _text(x: int, y: int, text: str, colour: str, size: int) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}">{escape(text[:60])}</text>'


def dashboard(url: str, name: str) -> str:
    """A dashboard as SVG: tiles in rows of four, graphs in rows of two."""
    now = time.time()
    parts: list[str] = []
    x = y = height = 0
    for panel in DASHBOARDS[name]:
        width, own = (WIDTH // 2, TILE) if panel.kind == "stat" else (WIDTH, GRAPH)
        if x + width > 2 * WIDTH or (height and own != height):
            x, y = 0, y + height + GAP
        parts.append(drawing(panel, answered(url, panel, now), (x, y, width - GAP, own)))
        x, height = x + width, own
    size = f'width="{2 * WIDTH}" height="{y + height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{"".join(parts)}</svg>\n'


if __name__ == "__main__":
    sys.stdout.write(dashboard(sys.argv[1].rstrip("/"), sys.argv[2]))
