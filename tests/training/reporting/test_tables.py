"""The table a run prints: ours, and the paper's where there is one."""

from io import StringIO

from rich.console import Console

from training.metrics import Metrics
from training.reporting.tables import metrics_table

TILE = Metrics(0.98, 0.9, 0.8, 0.7, 0.6, 0.5, None)
WOOD = Metrics(0.96, 0.9, 0.8, None, None, None, None)


def lines(table) -> dict[str, list[str]]:
    """Cells by first cell, as printed."""
    text = StringIO()
    Console(file=text, width=200).print(table)
    rows = [[cell.strip() for cell in line.split("│")] for line in text.getvalue().splitlines()]
    return {row[1]: row[2:-1] for row in rows if len(row) > 2}


def test_ours_alone():
    rows = lines(metrics_table({"tile": TILE, "wood": WOOD}))
    assert rows["tile"] == ["98.0", "90.0", "80.0", "70.0", "60.0", "50.0", "-"]
    assert rows["mean"] == ["97.0", "90.0", "80.0", "70.0", "60.0", "50.0", "-"]


def test_beside_the_paper():
    rows = lines(metrics_table({"tile": TILE, "wood": WOOD}, "moeclip", "mvtec_ad"))
    assert rows["tile"][:4] == ["98.0 / 99.4", "90.0 / 99.8", "80.0", "70.0 / 98.7"]
    assert rows["wood"][3] == "- / 98.0"
    assert rows["mean"][0] == "97.0 / 93.9"


def test_a_paper_without_classes_stands_beside_the_mean():
    rows = lines(metrics_table({"tile": TILE}, "anomalymoe", "MVTec-AD"))
    assert rows["tile"][0] == "98.0"
    assert rows["mean"][0] == "98.0 / 99.5"
