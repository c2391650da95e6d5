"""Figures of accuracy as rows, their mean, and what they must reach."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from export.contract.manifest import Level
from training.metrics import Floats, Metrics, interval, known_mean, mean_metrics

ALL = "all"
AT_THRESHOLD = ("false_positive_rate", "recall", "pixel_f1", "pixel_iou")
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """Figures of one category and one group of defects against all its good pictures.

    pictures: how many show such a defect; none in the row of a category without defects. level_auroc: of
    each level's map alone, where the method has levels. false_positive_rate, recall: shares of the good and
    of these pictures with an alarm at the calibrated threshold, pixel_f1, pixel_iou: at that of pixels; None
    where there are none. dataset: the published set that the category belongs to, if any. intervals: 95 % by
    bootstrap over the pictures, by name of the figure; draws: its value in every resample.
    """

    category: str
    defects: str
    pictures: int
    metrics: Metrics
    level_auroc: dict[Level, float | None]
    false_positive_rate: float | None = None
    dataset: str = ""
    recall: float | None = None
    pixel_f1: float | None = None
    pixel_iou: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    draws: Mapping[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """All but the resamples."""
        return asdict(replace(self, draws={}))


@dataclass(frozen=True)
class Requirement:
    """The least value (0..1) of one metric for a group of defects, over all categories."""

    defects: str
    metric: str
    least: float

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """`logical:image_auroc=0.95`. Raises ValueError."""
        match = re.fullmatch(r"([^:]+):(\w+)=([\d.]+)", text)
        metrics = [field.name for field in fields(Metrics)]
        if match is None or match[2] not in metrics:
            raise ValueError(f"{text!r} is not GROUP:METRIC=LEAST with METRIC one of {', '.join(metrics)}")
        return cls(match[1], match[2], float(match[3]))

    def complaint(self, rows: Sequence[Row]) -> str | None:
        """What is wrong, or None; the mean over categories counts where there are several."""
        groups = [row for row in rows if row.defects == self.defects]
        if not groups:
            return f"{self.defects}: no such defects"
        value: float | None = getattr(groups[-1].metrics, self.metric)
        if value is not None and value >= self.least:
            return None
        return (
            f"{self.defects}: {self.metric} is {percent(value)}, at least {percent(self.least)} is required"
        )


def _at_threshold(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: known_mean(getattr(one, name) for one in rows) for name in AT_THRESHOLD}


def _mean_draws(rows: Sequence[Row]) -> dict[str, Floats]:
    """The mean over categories in every resample, as these are drawn apart."""
    names = dict.fromkeys(name for one in rows for name in one.draws)
    return {name: np.mean([one.draws[name] for one in rows if name in one.draws], axis=0) for name in names}


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """The mean of every group that all categories with defects have; none for a single category.

    Each figure is over the categories that have it.
    """
    if len({row.category for row in rows}) < 2:
        return []
    defective = {row.category for row in rows if row.pictures}
    groups = {row.defects: [one for one in rows if one.defects == row.defects] for row in rows}
    shared = {
        defects: members
        for defects, members in groups.items()
        if defective <= {one.category for one in members}
    }
    return [
        Row(
            category=MEAN,
            defects=defects,
            pictures=sum(one.pictures for one in members),
            metrics=mean_metrics([one.metrics for one in members]),
            level_auroc={
                level: known_mean(one.level_auroc[level] for one in members)
                for level in members[0].level_auroc
            },
            **_at_threshold(members),
            intervals={name: interval(values) for name, values in _mean_draws(members).items()},
        )
        for defects, members in shared.items()
    ]


def percent(figure: float | None) -> str:
    return "-" if figure is None else f"{100 * figure:.1f}"
