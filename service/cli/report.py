"""How the client commands show answers: a table for people, JSON lines for programs."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.client import ClientError
from service.schemas.detect import DetectAnswer
from service.schemas.zero_shot import ZeroShotAnswer

Answer = DetectAnswer | ZeroShotAnswer
Shown = TypeVar("Shown", bound=Answer)

_MAPS = {"anomaly_map": True, "classes": {"__all__": {"anomaly_map"}}}


class JsonReport:
    """One JSON object per picture, printed at once: the answer without its maps, or the error."""

    def add(self, name: Path, result: Answer | ClientError) -> None:
        """Print one picture's result."""
        if isinstance(result, ClientError):
            shown: dict[str, object] = {"error": str(result)}
        else:
            shown = result.model_dump(mode="json", exclude=_MAPS)
        print(json.dumps({"picture": str(name), **shown}), flush=True)

    def end(self) -> None:
        """Nothing is left to print."""


class TableReport(Generic[Shown]):
    """One table, printed at the end: the picture, what `row` makes of its answer, the milliseconds.

    titles: of the cells of `row`: what it is, the verdict, numbers.
    """

    def __init__(self, titles: Sequence[str], row: Callable[[Shown], Sequence[str]]) -> None:
        what, verdict, *numbers = titles
        self.table = Table()
        for title in ("picture", what, verdict):
            self.table.add_column(title, overflow="fold")  # rather than to cut off what tells two apart
        for number in (*numbers, "ms"):
            self.table.add_column(number, justify="right")
        self.row = row

    def add(self, name: Path, result: Shown | ClientError) -> None:
        """Add one picture's row."""
        if isinstance(result, ClientError):
            self.table.add_row(_shown(name), "", f"[red]{escape(str(result))}[/]")
        else:
            self.table.add_row(_shown(name), *self.row(result), f"{result.timings_ms['total']:.1f}")

    def end(self) -> None:
        """Print the table."""
        Console().print(self.table)


def detect_table() -> TableReport[DetectAnswer]:
    """Category, verdict, score and p-value of each picture."""

    def row(answer: DetectAnswer) -> tuple[str, ...]:
        category = escape(answer.category or "unknown")
        return category, _verdict(answer.is_anomalous), _number(answer.score), _number(answer.p_value)

    return TableReport(("category", "verdict", "score", "p-value"), row)


def zero_shot_table() -> TableReport[ZeroShotAnswer]:
    """The best class name of each picture, with its verdict, score and threshold."""

    def row(answer: ZeroShotAnswer) -> tuple[str, ...]:
        best = next(one for one in answer.classes if one.class_name == answer.best)
        verdict = _verdict(best.is_anomalous)
        return escape(best.class_name), verdict, _number(best.score), _number(best.threshold)

    return TableReport(("best", "verdict", "score", "threshold"), row)


def _shown(name: Path) -> str:
    return escape(os.fsencode(name).decode(errors="replace"))


def _verdict(is_anomalous: bool) -> str:
    return "[red]anomalous[/]" if is_anomalous else "[green]normal[/]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
