"""A run's figures as a table, beside those of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from rich.table import Table

from training.metrics import Metrics, known_mean, mean_metrics
from training.reporting.reference import (
    Figure,
    Method,
    find_dataset,
    published_figure,
    reference_figures,
)
from training.reporting.rows import ALL, MEAN, Row, percent


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


def datasets_table(rows: Sequence[Row], method: Method) -> Table | None:
    """Table 1 of the method's paper with ours in it: means over the categories of each data set.

    Image / pixel AUROC of ours, of the paper and of all the methods that it compares; the last row is the
    average over the data sets above it. None where no category belongs to a data set of the paper.
    """
    ours = {
        find_dataset(method, name): mean_metrics([one.metrics for one in rows if _counts(one, name)])
        for name in dict.fromkeys(one.dataset for one in rows if _counts(one, one.dataset))
    }
    published = {
        (figure.variant, figure.dataset): (figure.image_auroc, figure.pixel_auroc)
        for figure in reference_figures(method, 1)
    }
    names = [name for name in dict.fromkeys(name for _, name in published) if name in ours]
    if not names:
        return None
    columns = {"ours": [(ours[name].image_auroc, ours[name].pixel_auroc) for name in names]}
    for variant in reversed(dict.fromkeys(variant for variant, _ in published)):  # its own method is the last
        found = [published[variant, name] for name in names]
        columns[variant] = [(_share(image), _share(pixel)) for image, pixel in found]
    table = Table("data set", *columns, caption="percent, image / pixel AUROC; all but ours as published")
    for number, name in enumerate(names):
        table.add_row(name, *(_pair(*figures[number]) for figures in columns.values()))
    table.add_section()
    averages = [[known_mean(part) for part in zip(*figures, strict=True)] for figures in columns.values()]
    table.add_row("average", *(_pair(*one) for one in averages))
    return table


def _counts(row: Row, dataset: str) -> bool:
    """Whether a row goes into the mean of a data set."""
    return row.dataset == dataset != "" and row.defects == ALL and row.category != MEAN


def _share(percentage: float | None) -> float | None:
    return None if percentage is None else percentage / 100


def _pair(image: float | None, pixel: float | None) -> str:
    return f"{percent(image)} / {percent(pixel)}"


def _cells(metrics: Metrics, figure: Figure | None) -> list[str]:
    theirs = figure.model_dump() if figure else {}
    return [_cell(getattr(metrics, field.name), theirs.get(field.name)) for field in fields(Metrics)]


def _cell(ours: float | None, theirs: float | None) -> str:
    shown = "-" if ours is None else f"{100 * ours:.1f}"
    return shown if theirs is None else f"{shown} / {theirs:.1f}"
