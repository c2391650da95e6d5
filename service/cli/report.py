"""How the client commands show answers: a table for people, JSON lines and CSV for programs."""

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anomoe_client import ClassVerdict, ClientError, Detection, ZeroShotDetection
from anomoe_client.answers import without_maps

Judged = Detection | ZeroShotDetection
Columns = Mapping[str, Callable[[Any], object]]
"""Titles, and what each makes of an answer."""

_COLOURS = {"normal": "green", "undecided": "yellow", "anomalous": "red"}
TEXTS = ("picture", "category", "best", "verdict")


def verdict_of(answer: Detection | ClassVerdict) -> str:
    """In a word; of a service that only says whether it is anomalous, that."""
    told = answer.verdict if isinstance(answer, Detection) else None
    return told or ("anomalous" if answer.is_anomalous else "normal")


def best_of(answer: ZeroShotDetection) -> ClassVerdict:
    """The verdict with the class name that fits best."""
    return next(one for one in answer.classes if one.class_name == answer.best)


DETECT: Mapping[str, Callable[[Detection], object]] = {
    "category": lambda answer: answer.category or "unknown",
    "verdict": verdict_of,
    "score": lambda answer: answer.score,
    "p-value": lambda answer: answer.p_value,
    "ms": lambda answer: answer.timings_ms["total"],
}
ZERO_SHOT: Mapping[str, Callable[[ZeroShotDetection], object]] = {
    "best": lambda answer: answer.best,
    "verdict": lambda answer: verdict_of(best_of(answer)),
    "score": lambda answer: best_of(answer).score,
    "threshold": lambda answer: best_of(answer).threshold,
    "ms": lambda answer: answer.timings_ms["total"],
}


class JsonReport:
    """One JSON object per picture, printed at once: the answer without its maps, or the error."""

    def add(self, name: Path, result: Judged | ClientError) -> None:
        """Print one picture's result."""
        if isinstance(result, ClientError):
            shown: dict[str, object] = {"error": str(result)}
        else:
            shown = without_maps(result)
        print(json.dumps({"picture": str(name), **shown}), flush=True)

    def end(self) -> None:
        """Nothing is left to print."""


class CsvReport:
    """One line per picture below a line of titles, printed at once; the last column has the error."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        self.writer.writerow(["picture", *columns, "error"])

    def add(self, name: Path, result: Judged | ClientError) -> None:
        """Print one picture's result."""
        if isinstance(result, ClientError):
            self.writer.writerow([_printable(name), *("" for _ in self.columns), result])
        else:
            self.writer.writerow([_printable(name), *(cell(result) for cell in self.columns.values()), ""])
        sys.stdout.flush()

    def end(self) -> None:
        """Nothing is left to print."""


class TableReport:
    """One table, printed at the end."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.table = Table()
        for title in ("picture", *columns):  # folded rather than to cut off what tells two texts apart
            self.table.add_column(title, justify="left" if title in TEXTS else "right", overflow="fold")

    def add(self, name: Path, result: Judged | ClientError) -> None:
        """Add one picture's row."""
        if isinstance(result, ClientError):
            cells = ["", f"[red]{escape(str(result))}[/]"]
        else:
            cells = [_cell(title, column(result)) for title, column in self.columns.items()]
        self.table.add_row(escape(_printable(name)), *cells)

    def end(self) -> None:
        """Print the table."""
        Console().print(self.table)


def _cell(title: str, value: object) -> str:
    if title == "verdict":
        return f"[{_COLOURS.get(str(value), 'red')}]{escape(str(value))}[/]"
    if isinstance(value, float):
        return f"{value:.1f}" if title == "ms" else f"{value:.3f}"
    return "-" if value is None else escape(str(value))


def _printable(name: Path) -> str:
    return os.fsencode(name).decode(errors="replace")


Report = JsonReport | CsvReport | TableReport
