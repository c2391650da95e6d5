"""The rows of a measurement as text for a file: JSON, CSV or Markdown, by its suffix."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from training.metrics import Metrics
from training.reporting.reference import Figure
from training.reporting.rows import AT_THRESHOLD, Row
from training.reporting.tables import FIGURES

SUFFIXES = (".json", ".csv", ".md")
_COLUMNS = ("dataset", "category", "defects", "pictures")


def rows_text(
    path: Path, rows: Sequence[Row], protocol: Mapping[str, Any], table_1: Sequence[Figure] = ()
) -> str:
    """What goes into a file of figures in 0..1; protocol: how they were measured, which JSON tells.

    table_1: that of the paper, in percent, for JSON and Markdown. The suffix is one of SUFFIXES.
    """
    if path.suffix == ".json":
        theirs = [one.model_dump(exclude={"category"}) for one in table_1]
        content = {"protocol": protocol, "rows": [row.as_json() for row in rows], "table_1": theirs}
        return json.dumps(content, indent=2) + "\n"
    table = _table(rows)
    if path.suffix == ".md":
        tables = [table, _published(table_1)] if table_1 else [table]
        return "\n".join(map(_markdown, tables))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _published(table_1: Sequence[Figure]) -> list[list[str]]:
    names = [name for name in FIGURES if any(getattr(one, name) is not None for one in table_1)]
    figures = ([getattr(one, name) for name in names] for one in table_1)
    lines = [
        [one.dataset, one.variant, *("" if value is None else f"{value:.1f}" for value in values)]
        for one, values in zip(table_1, figures, strict=True)
    ]
    return [["data set", "method", *names], *lines]


def _table(rows: Sequence[Row]) -> list[list[str]]:
    names = [*(field.name for field in fields(Metrics)), *AT_THRESHOLD]
    known = dict.fromkeys(name for row in rows for name in row.intervals)
    ends = [f"{name}_{end}" for name in names if name in known for end in ("low", "high")]
    return [[*_COLUMNS, *names, *ends], *(_line(row, names, known) for row in rows)]


def _line(row: Row, names: Sequence[str], known: Collection[str]) -> list[str]:
    values = asdict(row.metrics) | {name: getattr(row, name) for name in AT_THRESHOLD}
    figures = [values[name] for name in names]
    figures += [end for name in names if name in known for end in row.intervals.get(name, (None, None))]
    return [
        *(str(getattr(row, name)) for name in _COLUMNS),
        *("" if one is None else f"{one:.6f}" for one in figures),
    ]
