"""The table a run prints: ours, and the paper's where there is one."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from training.metrics import Metrics
from training.reporting.rows import Row
from training.reporting.tables import datasets_tables, metrics_table, table_1

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
    assert rows["tile"] == ["98.0", "90.0", "80.0", "70.0", "60.0", "50.0", "-", "-"]
    assert rows["mean"] == ["97.0", "90.0", "80.0", "70.0", "60.0", "50.0", "-", "-"]


def test_beside_the_paper():
    rows = lines(metrics_table({"tile": TILE, "wood": WOOD}, "moeclip", "mvtec_ad"))
    assert rows["tile"][:4] == ["98.0 / 99.4", "90.0 / 99.8", "80.0", "70.0 / 98.7"]
    assert rows["wood"][3] == "- / 98.0"
    assert rows["mean"][0] == "97.0 / 93.9"


def test_a_paper_without_classes_stands_beside_the_mean():
    rows = lines(metrics_table({"tile": TILE}, "anomalymoe", "MVTec-AD"))
    assert rows["tile"][0] == "98.0"
    assert rows["mean"][0] == "98.0 / 99.5"


def row(dataset: str, category: str, metrics: Metrics) -> Row:
    return Row(category, "all", 1, metrics, {}, dataset=dataset)


def test_table_1_has_all_methods_and_averages_over_data_sets():
    rows = [
        row("MVTec-AD", "tile", TILE),
        row("MVTec-AD", "wood", WOOD),
        row("MVTec-AD", "mean", replace(TILE, image_auroc=0.0)),
        row("Brain MRI", "Brain_AD", replace(TILE, image_auroc=0.5)),
        row("", "mine", TILE),
    ]
    (table,) = datasets_tables(table_1(rows, "anomalymoe"), "anomalymoe")
    header = [column.header for column in table.columns]
    assert header[:4] == ["data set", "ours", "AnomalyMoE", "LogSAD"]
    assert len(header) == 9
    found = lines(table)
    assert found["MVTec-AD"][:3] == ["97.0 / 70.0", "99.5 / 97.7", "96.9 / 97.0"]
    assert found["BrainMRI"][:2] == ["50.0 / 70.0", "92.1 / 97.3"]
    assert found["average"][:2] == ["73.5 / 70.0", "95.8 / 97.5"]
    assert table_1(rows[-1:], "anomalymoe") == []
    assert datasets_tables([], "anomalymoe") == []


def test_what_a_data_set_cannot_have_is_left_out_of_the_average():
    pixels_only = Metrics(None, None, None, 0.9, None, None, None)
    figures = table_1([row("ColonDB", "x", pixels_only), row("Head CT", "y", TILE)], "moeclip")
    images, pixels = map(lines, datasets_tables(figures, "moeclip"))
    assert images["ColonDB"][:2] == ["- / -", "- / -"]
    assert images["average"][0] == "98.0 / 90.0"
    assert pixels["ColonDB"][:2] == ["90.0 / -", "85.4 / 34.8"]
    assert pixels["average"][0] == "80.0 / 60.0"
