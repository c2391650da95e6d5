"""A run's figures as a table, beside those of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from rich.table import Table

from training.metrics import Metrics, mean_metrics
from training.reporting.reference import Figure, Method, published_figure
from training.reporting.rows import ALL, MEAN, Row


def metrics_table(
    results: Mapping[str, Metrics], method: Method | None = None, dataset: str | None = None
) -> Table:
    """One row a category and their mean, in percent: "ours" or, where the paper reports it, "ours / paper's".

    method, dataset: the paper and the name of the data set there; without them only our figures are shown.
    """
    table = Table("category", *(field.name.replace("_", " ") for field in fields(Metrics)))
    if method and dataset:
        table.caption = f"percent, ours / {method} paper (its mean is over the whole of {dataset})"
    else:
        table.caption = "percent"
    for category, metrics in results.items():
        figure = published_figure(method, dataset, category) if method and dataset else None
        table.add_row(category, *_cells(metrics, figure))
    figure = published_figure(method, dataset) if method and dataset else None
    table.add_section()
    table.add_row(MEAN, *_cells(mean_metrics(list(results.values())), figure))
    return table


def paper_table(rows: Sequence[Row], method: Method, dataset: str | None) -> Table:
    """What `evaluate` found for all defects of each category, beside the paper's figures if it has any."""
    results = {row.category: row.metrics for row in rows if row.defects == ALL and row.category != MEAN}
    return metrics_table(results, method, dataset)


def _cells(metrics: Metrics, figure: Figure | None) -> list[str]:
    theirs = figure.model_dump() if figure else {}
    return [_cell(getattr(metrics, field.name), theirs.get(field.name)) for field in fields(Metrics)]


def _cell(ours: float | None, theirs: float | None) -> str:
    shown = "-" if ours is None else f"{100 * ours:.1f}"
    return shown if theirs is None else f"{shown} / {theirs:.1f}"
