"""How the `anomoe detect` command shows answers: a table for people, JSON lines for programs."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.client import ClientError
from service.schemas import DetectAnswer

Result = DetectAnswer | ClientError


class JsonReport:
    """One JSON object per picture, printed at once: the answer without its map, or the error."""

    def add(self, name: Path, result: Result) -> None:
        """Print one picture's result."""
        if isinstance(result, ClientError):
            shown: dict[str, object] = {"error": str(result)}
        else:
            shown = result.model_dump(mode="json", exclude={"anomaly_map"})
        print(json.dumps({"picture": str(name), **shown}), flush=True)

    def end(self) -> None:
        """Nothing is left to print."""


class TableReport:
    """One table, printed at the end."""

    def __init__(self) -> None:
        self.table = Table("picture", "category", "verdict")
        for number in ("score", "p-value", "ms"):
            self.table.add_column(number, justify="right")

    def add(self, name: Path, result: Result) -> None:
        """Add one picture's row."""
        if isinstance(result, ClientError):
            self.table.add_row(escape(str(name)), "", f"[red]{escape(str(result))}[/]", "", "", "")
            return
        self.table.add_row(
            escape(str(name)),
            escape(result.category or "unknown"),
            "[red]anomalous[/]" if result.is_anomalous else "[green]normal[/]",
            _number(result.score),
            _number(result.p_value),
            f"{result.timings_ms['total']:.1f}",
        )

    def end(self) -> None:
        """Print the table."""
        Console().print(self.table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
