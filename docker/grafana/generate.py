"""Write the dashboards: `python docker/grafana/generate.py`; with `--check` only see whether they are right.

They are wrong when a file is stale, or when an expression asks for a metric or a label that neither the
service nor the recording rules define.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from panels import DASHBOARDS, Panel

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "dashboards"
RULES = HERE.parent / "prometheus" / "rules"
TARGET = frozenset({"job", "instance"})  # what Prometheus adds to each series
FOREIGN = {"up": frozenset(), "ALERTS": frozenset({"alertname", "alertstate", "category"})}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {  # by name: the series, and its label that has the values
    "job": ("anomoe_ready", "job"),
    "instance": ('anomoe_ready{job=~"$job"}', "instance"),
    "product": ('anomoe_images_total{job=~"$job",instance=~"$instance"}', "category"),
}

SERIES = re.compile(r"(?<![\w:$])([a-zA-Z_:][\w:]*)\b(?!\s*\()(?:\s*\{([^}]*)\})?")
OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right) ?\(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*[\"'`]")


def selectors(expression: str) -> Iterator[tuple[str, str]]:
    """Every series that an expression names, with its matchers."""
    for name, matchers in SERIES.findall(GROUPING.sub(" ", expression)):
        if name not in OPERATORS:
            yield name, matchers


def faults(expression: str, known: Mapping[str, frozenset[str]], legend: str = "") -> Iterator[str]:
    """What an expression, and the legend of its lines, asks for and nobody defines."""
    has = set(TARGET)
    for name, matchers in selectors(expression):
        if name not in known:
            yield f"no metric {name}"
            continue
        has |= known[name]
        yield from (
            f"{name} has no label {one}"
            for one in MATCHER.findall(matchers)
            if one not in known[name] | TARGET
        )
    groups = [
        one.strip() for group in GROUPING.findall(expression) for one in group.split(",") if one.strip()
    ]
    for one in (*groups, *re.findall(r"{{(\w+)}}", legend)):
        if one not in has:
            yield f"no label {one} in {expression}"


def known_series(labels: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    """The labels of every series by its name; a recorded one has the label before its first colon."""
    known = {name: frozenset(own) for name, own in labels.items()} | FOREIGN
    process = ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds")
    known |= {f"process_{name}": frozenset() for name in process}
    for file in sorted(RULES.glob("*.yml")):
        for name in re.findall(r"record: (\S+)", file.read_text(encoding="utf-8")):
            known[name] = frozenset({name.partition(":")[0]})
    return known


def queries() -> Iterator[tuple[str, str, str]]:
    """The expression and the legend of every variable and panel, by what it is of."""
    yield from ((f"variable {name}", query, f"{{{{{label}}}}}") for name, (query, label) in VARIABLES.items())
    for name, panels in DASHBOARDS.items():
        for panel in panels:
            yield from ((f"{name}, {panel.title}", *query) for query in panel.queries)


def rendered(name: str, panels: tuple[Panel, ...]) -> str:
    """A dashboard as Grafana's JSON."""
    variables = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    variables += [
        {"name": one, "type": "query", "datasource": SOURCE, "query": f"label_values({asked}, {label})"}
        | {"refresh": 2, "multi": True, "includeAll": True, "allValue": ".*"}
        | {"current": {"text": "All", "value": "$__all"}}
        for one, (asked, label) in VARIABLES.items()
    ]
    dashboard = {
        "uid": f"anomoe-{name}",
        "title": f"anomoe: {name}",
        "tags": ["anomoe"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "title": "anomoe", "tags": ["anomoe"], "keepTime": True}],
        "templating": {"list": variables},
        "panels": [_panel(number, panel, place) for number, (panel, place) in enumerate(_placed(panels), 1)],
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _placed(panels: tuple[Panel, ...]) -> Iterator[tuple[Panel, dict[str, int]]]:
    """Tiles in rows of four, graphs in rows of two; of a row's 24 columns."""
    x = y = 0
    height = 0
    for panel in panels:
        width, own = (6, 4) if panel.kind == "stat" else (12, 8)
        if x + width > 24 or (height and own != height):
            x, y = 0, y + height
        yield panel, {"x": x, "y": y, "w": width, "h": own}
        x, height = x + width, own


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    nothing = {"type": "special", "options": {"match": "nan", "result": {"text": "no traffic"}}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "noValue": "no traffic",
                "mappings": [nothing],
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
    }


def main() -> int:
    """Write or check; 1 when something is wrong."""
    files = {FOLDER / f"{name}.json": rendered(name, panels) for name, panels in DASHBOARDS.items()}
    if "--check" not in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
        return 0
    from service.metrics import Metrics  # noqa: PLC0415 (to write takes no installed service)

    known = known_series(Metrics().labels)
    wrong = [
        f"{title}: {fault}" for title, *query in queries() for fault in faults(query[0], known, query[1])
    ]
    for file in sorted({*files, *FOLDER.glob("*.json")}):
        if not file.is_file() or file.read_text(encoding="utf-8") != files.get(file):
            wrong.append(f"{file.name} is stale: python docker/grafana/generate.py")
    print("\n".join(wrong) or "dashboards are right")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
