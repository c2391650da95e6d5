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
from training.reporting.rows import ALL, MEAN, Row

AVERAGE, OURS = "average", "ours"
FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
PAIRS: dict[Method, tuple[tuple[str, str], ...]] = {
    "anomalymoe": (("image_auroc", "pixel_auroc"),),
    "moeclip": (("image_auroc", "image_ap"), ("pixel_auroc", "pixel_ap")),
}


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


def table_1(rows: Sequence[Row], method: Method) -> list[Figure]:
    """Table 1 of the method's paper for the data sets at hand, with ours in it, in percent.

    Of ours the means over the categories of each data set, all others as published; each ends with its
    average over these data sets. Empty where no category belongs to a data set of the paper.
    """
    published = [one for one in reference_figures(method, 1) if one.category is None]
    ours = dataset_means(rows, method)
    names = [one.dataset for one in ours]
    variants = dict.fromkeys(one.variant for one in reversed(published))  # the paper's own method is the last
    groups = [ours, *([one for one in published if one.variant == variant] for variant in variants)]
    shown = [[one for one in group if one.dataset in names] for group in groups if names]
    return [figure for group in shown for figure in (*group, average(group))]


def dataset_means(rows: Sequence[Row], method: Method) -> list[Figure]:
    """Ours for each data set of Table 1 of the method's paper that there is, in percent and in its order."""
    members = {
        find_dataset(method, name): [one.metrics for one in rows if _counts(one, name)]
        for name in dict.fromkeys(one.dataset for one in rows if _counts(one, one.dataset))
    }
    known = dict.fromkeys(one.dataset for one in reference_figures(method, 1))
    return [as_figure(name, OURS, mean_metrics(members[name])) for name in known if name in members]


def with_average(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of data sets, and their average where there are several."""
    return [*figures, average(figures)] if len(figures) > 1 else [*figures]


def datasets_tables(figures: Sequence[Figure], method: Method) -> list[Table]:
    """`table_1` as in the paper: a column a method and a row a data set, the average last."""
    by_place = {(one.dataset, one.variant): one for one in figures}
    variants = dict.fromkeys(one.variant for one in figures)
    tables: list[Table] = []
    for names in PAIRS[method] if figures else ():
        title = " / ".join(name.replace("_", " ") for name in names)
        table = Table("data set", *variants, caption=f"percent, {title}; all but ours as published")
        for dataset in dict.fromkeys(one.dataset for one in figures):
            if dataset == AVERAGE:
                table.add_section()
            pairs = ([getattr(by_place[dataset, one], name) for name in names] for one in variants)
            table.add_row(dataset, *(" / ".join(map(_shown, pair)) for pair in pairs))
        tables.append(table)
    return tables


def _counts(row: Row, dataset: str) -> bool:
    """Whether a row goes into the mean of a data set."""
    return row.dataset == dataset != "" and row.defects == ALL and row.category != MEAN


def as_figure(dataset: str, variant: str, metrics: Metrics) -> Figure:
    """Shares as a row of a paper's table, in percent."""
    shares = {name: getattr(metrics, name) for name in FIGURES}
    return Figure(
        dataset=dataset,
        variant=variant,
        **{name: None if one is None else 100 * one for name, one in shares.items()},
    )


def average(figures: Sequence[Figure]) -> Figure:
    """The mean over data sets, each figure over those that have it."""
    means = {name: known_mean(getattr(one, name) for one in figures) for name in FIGURES}
    return Figure.model_validate({"dataset": AVERAGE, "variant": figures[0].variant, **means})


def _shown(percentage: float | None) -> str:
    return "-" if percentage is None else f"{percentage:.1f}"


def _cells(metrics: Metrics, figure: Figure | None) -> list[str]:
    theirs = figure.model_dump() if figure else {}
    return [_cell(getattr(metrics, field.name), theirs.get(field.name)) for field in fields(Metrics)]


def _cell(ours: float | None, theirs: float | None) -> str:
    shown = "-" if ours is None else f"{100 * ours:.1f}"
    return shown if theirs is None else f"{shown} / {theirs:.1f}"
