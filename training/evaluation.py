"""`anomoe-train evaluate`: a checkpoint on test pictures, by category and by kind of defect."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from rich.table import Table

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.head import Head
from training.checkpoint import Checkpoint
from training.data import DataError, Sample, find_samples, load_mask, load_picture
from training.metrics import Metrics, auroc, bootstrap_interval, evaluate
from training.scoring import score_pictures

BATCH = 16
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class Scored:
    """Test pictures of one category with their scores (n,), level scores (n, 3) and maps (n, Hm, Wm)."""

    samples: list[Sample]
    scores: npt.NDArray[np.float32]
    level_scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """Figures of one category, for all its defects or for one kind against all its good pictures."""

    category: str
    kind: str
    pictures: int
    metrics: Metrics
    interval: tuple[float, float]
    level_auroc: dict[Level, float]


def score_samples(checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress) -> Scored:
    """Score the test pictures of one category, as the service would when told the category."""
    category = checkpoint.categories[samples[0].category]
    head = Head(checkpoint.config.map_size)
    outputs = []
    starts = range(0, len(samples), BATCH)
    for start in progress.track(starts, description=f"score {category.name}"):
        batch = samples[start : start + BATCH]
        pixels = torch.from_numpy(np.stack([load_picture(one.path, checkpoint.config.input) for one in batch]))
        outputs.append(score_pictures(checkpoint.detector, head, pixels, [category] * len(batch)))
    maps, scores, level_scores = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    return Scored(list(samples), scores, level_scores, maps)


def evaluate_checkpoint(checkpoint: Checkpoint, data: Path, progress: Progress) -> list[Row]:
    """Figures of every category with test pictures: all defects first, then each kind by itself.

    Raises DataError when there are none, or of a category the checkpoint does not know.
    """
    test = [sample for sample in find_samples(data) if sample.split == "test"]
    if not test:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    rows = []
    for name in sorted({sample.category for sample in test}):
        if name not in checkpoint.categories:
            known = ", ".join(checkpoint.categories)
            raise DataError(f"{data}: category {name!r} is not in the checkpoint, which knows {known}")
        scored = score_samples(checkpoint, [one for one in test if one.category == name], progress)
        rows += _rows(name, scored, checkpoint)
    return rows


def rows_table(rows: Sequence[Row]) -> Table:
    """The figures in percent, with the 95 % bootstrap interval of the image AUROC."""
    table = Table("category", "kind", "n", "image AUROC", "95 %", "AP", "F1-max", "pixel AUROC", "AUPRO", *LEVELS)
    for row in rows:
        figures = row.metrics
        low, high = row.interval
        table.add_row(
            row.category,
            row.kind,
            str(row.pictures),
            _percent(figures.image_auroc),
            f"{_percent(low)} - {_percent(high)}",
            *map(_percent, (figures.image_ap, figures.image_f1_max, figures.pixel_auroc, figures.aupro)),
            *(_percent(row.level_auroc[level]) for level in LEVELS),
        )
    return table


def _rows(name: str, scored: Scored, checkpoint: Checkpoint) -> list[Row]:
    size = checkpoint.config.map_size
    masks = [load_mask(one, checkpoint.config.input, size) for one in scored.samples]
    kinds = sorted({one.kind for one in scored.samples if one.is_anomalous})
    groups = [("all", set(kinds)), *((kind, {kind}) for kind in kinds)]
    return [_row(name, group, members, scored, masks) for group, members in groups]


def _row(
    name: str, kind: str, members: set[str], scored: Scored, masks: Sequence[npt.NDArray[np.bool_] | None]
) -> Row:
    chosen = [i for i, one in enumerate(scored.samples) if not one.is_anomalous or one.kind in members]
    labels = np.array([scored.samples[i].is_anomalous for i in chosen])
    scores = scored.scores[chosen]
    metrics = evaluate(scores, scored.maps[chosen], labels, [masks[i] for i in chosen])
    levels = {level: auroc(labels, scored.level_scores[chosen, i]) for i, level in enumerate(LEVELS)}
    interval = bootstrap_interval(labels, scores, auroc)
    return Row(name, kind, int(labels.sum()), metrics, interval, levels)


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{100 * figure:.1f}"
