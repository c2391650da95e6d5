"""The rows of a measurement as text for a file: JSON, CSV or Markdown, by its suffix."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from training.metrics import Metrics
from training.reporting.rows import AT_THRESHOLD, Row

SUFFIXES = (".json", ".csv", ".md")
_COLUMNS = ("dataset", "category", "defects", "pictures")


def rows_text(path: Path, rows: Sequence[Row], as_json: str) -> str:
    """What goes into a file of figures in 0..1; as_json: for JSON, which also tells how they were measured.

    The suffix is one of SUFFIXES.
    """
    if path.suffix == ".json":
        return as_json
    table = _table(rows)
    if path.suffix == ".md":
        lines = [table[0], ["---"] * len(table[0]), *table[1:]]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _table(rows: Sequence[Row]) -> list[list[str]]:
    metrics = [field.name for field in fields(Metrics)]
    heading = [*_COLUMNS, *metrics, "image_auroc_low", "image_auroc_high", *AT_THRESHOLD]
    return [heading, *(_line(row) for row in rows)]


def _line(row: Row) -> list[str]:
    figures = [*asdict(row.metrics).values(), *(row.interval or (None, None))]
    figures += [getattr(row, name) for name in AT_THRESHOLD]
    return [
        *(str(getattr(row, name)) for name in _COLUMNS),
        *("" if one is None else f"{one:.6f}" for one in figures),
    ]
