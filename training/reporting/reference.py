"""The figures printed in the two papers, as data, so that a run shows ours beside theirs."""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from training.data.sets.known import find_known, plain

Method = Literal["anomalymoe", "moeclip"]


class Figure(BaseModel):
    """One row of a paper's table, in percent as printed; None where the paper gives nothing.

    variant: the compared method or ablation. category: None for the mean over the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    variant: str
    category: str | None = None
    image_auroc: float | None = None
    image_ap: float | None = None
    pixel_auroc: float | None = None
    pixel_ap: float | None = None


class _Table(BaseModel):
    method: Method
    table: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


def reference_figures(method: Method, table: int) -> list[Figure]:
    """All rows of one table: 1, 2 and 3 of the AnomalyMoE paper, 1, 2 and 15 of the MoECLIP paper.

    Raises ValueError for a table that is not kept, naming those that are.
    """
    found = _tables().get((method, table))
    if found is None:
        known = ", ".join(f"{name} {number}" for name, number in _tables())
        raise ValueError(f"no table {table} of {method!r}; there are {known}")
    return found


def published_figure(method: Method, dataset: str, category: str | None = None) -> Figure | None:
    """The paper's row for its own full method, if any; names match whatever their case and punctuation."""
    wanted = (plain(method), plain(dataset), plain(category or ""))
    own_tables = (figures for (name, _), figures in _tables().items() if name == method)
    for figure in (figure for figures in own_tables for figure in figures):
        if (plain(figure.variant), plain(figure.dataset), plain(figure.category or "")) == wanted:
            return figure
    return None


def find_dataset(method: Method, name: str) -> str | None:
    """The data set of that name, or of that usual folder name, as the method's paper calls it."""
    known = find_known(name)
    names = (name, known.name, *known.names) if known else (name,)
    figures = (published_figure(method, one) for one in names)
    return next((one.dataset for one in figures if one), None)


@cache
def _tables() -> dict[tuple[str, int], list[Figure]]:
    text = (files("training.reporting") / "reference.json").read_text(encoding="utf-8")
    tables = TypeAdapter(list[_Table]).validate_python(json.loads(text))
    return {
        (table.method, table.table): [
            Figure.model_validate(dict(zip(table.columns, row, strict=True))) for row in table.rows
        ]
        for table in tables
    }
