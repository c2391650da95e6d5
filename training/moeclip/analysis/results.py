"""What the variants of a table of the MoECLIP paper reach, as table, JSON and charts beside the paper's."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from training.figures.chart import Chart
from training.reporting.reference import Figure, reference_figures
from training.reporting.tables import AVERAGE, FIGURES

_VALUE = re.compile(r" ?\d[\d.]* ?")  # what is varied, `0.1` of `lambda_MoE 0.1`


class Result(NamedTuple):
    """A variant of a table, its figures for each data set of the paper with their average, else their mean.

    losses: how the training losses fell, by step.
    """

    name: str
    figures: list[Figure]
    losses: list[dict[str, float]]


def results_table(table: str, results: Sequence[Result]) -> Table:
    """One row a variant, in percent, with the paper's where it has a row of that name."""
    published = _published(table)
    columns = {
        (figure.dataset, name): None
        for one in results
        for figure in one.figures
        for name in FIGURES
        if getattr(figure, name) is not None
    }
    shown = Table("variant", *(f"{dataset} {name.replace('_', ' ')}" for dataset, name in columns))
    shown.caption = "percent, ours / paper"
    for one in results:
        ours = {figure.dataset: figure for figure in one.figures}
        pairs = (
            [getattr(ours.get(dataset), name, None), getattr(published.get((dataset, one.name)), name, None)]
            for dataset, name in columns
        )
        cells = ([f"{value:.1f}" for value in pair if value is not None] for pair in pairs)
        shown.add_row(one.name, *map(" / ".join, cells))
    return shown


def results_json(table: str, results: Sequence[Result]) -> str:
    """All figures in percent, with the paper's beside."""
    published = _published(table)
    rows = [
        {
            "variant": one.name,
            "dataset": figure.dataset,
            "ours": figure.model_dump(include={*FIGURES}),
            "paper": theirs.model_dump(include={*FIGURES}) if theirs else None,
            "losses": one.losses if table == "figure-8" else None,
        }
        for one in results
        for figure in one.figures
        for theirs in [published.get((figure.dataset, one.name))]
    ]
    return json.dumps(rows, indent=2) + "\n"


def charts(table: str, results: Sequence[Result]) -> list[Chart]:
    """Figure 6, 7 or 8: image and pixel AUROC over what is varied, or the losses over the steps."""
    if table == "figure-8":
        curves = {one.name: [(at["step"], at["total"]) for at in one.losses] for one in results}
        return [Chart("training loss over the steps", curves)]
    groups: dict[str, list[Result]] = defaultdict(list)
    for one in results:
        groups[_VALUE.sub("", one.name)].append(one)
    return [_chart(name, members) for name, members in groups.items()]


def _chart(name: str, results: Sequence[Result]) -> Chart:
    """Figures of the last data set, or of the average, over the values in the names of the variants."""
    last = [one.figures[-1] for one in results]
    points = {
        field.replace("_", " "): [
            (float(x), value) for x, one in enumerate(last) if (value := getattr(one, field)) is not None
        ]
        for field in ("image_auroc", "pixel_auroc")
    }
    ticks = {float(x): one.name.replace(name, "").strip() for x, one in enumerate(results)}
    shown = {one: curve for one, curve in points.items() if curve}
    return Chart(f"{name}: percent, {last[0].dataset}", shown, ticks)


def _published(table: str) -> dict[tuple[str, str], Figure]:
    """The paper's by data set and variant; its averages have the name of ours."""
    if not table.isdecimal():
        return {}
    figures = reference_figures("moeclip", int(table))
    return {(AVERAGE if one.dataset == "Average" else one.dataset, one.variant): one for one in figures}
