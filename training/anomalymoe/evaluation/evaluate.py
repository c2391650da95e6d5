"""`anomoe-train evaluate`: a checkpoint on test pictures, by category and by kind of defect."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from rich.table import Column, Table
from torch import Tensor

from export.contract.decision import conformal_threshold
from export.contract.manifest import LEVELS
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.evaluation.protocol import Protocol, min_max, prepared
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import judged, raw_levels
from training.data.component_masks import component_masks
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_mask, load_picture
from training.device import on_training_device
from training.metrics import auroc, bootstrap_interval, evaluate
from training.reporting.rows import ALL, Row, mean_rows, percent

BATCH = 16
SERVED = Protocol()


@dataclass(frozen=True, eq=False)
class Scored:
    """Test pictures of one category with their scores (n,), level scores (n, 3) and maps (n, Hm, Wm)."""

    samples: list[Sample]
    scores: npt.NDArray[np.float32]
    level_scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]


def score_samples(
    checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress, protocol: Protocol = SERVED
) -> Scored:
    """Score the test pictures of one category, by default as the service would when told the category."""
    head = Head(checkpoint.config.map_size, checkpoint.detector.encoder.grid)
    starts = range(0, len(samples), BATCH)
    tracked = progress.track(starts, description=f"score {samples[0].category}")
    with on_training_device(checkpoint.detector):
        parts = [_judged(checkpoint, samples[start : start + BATCH], protocol) for start in tracked]
    levels_nLhw, evidence_n = (torch.cat(column) for column in zip(*parts, strict=True))
    if protocol.normalise == "test-minmax":
        levels_nLhw = min_max(levels_nLhw)
    outputs = [head(part) for part in levels_nLhw.split(BATCH)]
    maps, scores, level_scores = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    return Scored(list(samples), np.maximum(scores, evidence_n.numpy()), level_scores, maps)


def evaluate_checkpoint(
    checkpoint: Checkpoint, data: Place, progress: Progress, protocol: Protocol = SERVED
) -> list[Row]:
    """Figures of every category with test pictures, then their means; see `defect_groups`.

    protocol: how pictures are prepared and maps scaled; the service's by default.
    Raises DataError when there are none, and for a category the checkpoint does not know but has to.
    """
    test = [sample for sample in find_samples(data) if sample.split == "test"]
    if not test:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    checkpoint = prepared(checkpoint, data, protocol, progress)
    rows: list[Row] = []
    for name in sorted({sample.category for sample in test}):
        if protocol.needs_categories and name not in checkpoint.categories:
            known = ", ".join(checkpoint.categories)
            raise DataError(f"{data}: category {name!r} is not in the checkpoint, which knows {known}")
        members = [one for one in test if one.category == name]
        scored = score_samples(checkpoint, members, progress, protocol)
        rate = false_positive_rate(scored, checkpoint, name) if protocol.normalise == "calibrated" else None
        rows += [replace(row, false_positive_rate=rate) for row in _category_rows(name, scored, checkpoint)]
    return rows + mean_rows(rows)


def rows_table(rows: Sequence[Row], protocol: Protocol = SERVED) -> Table:
    """The figures in percent, with the 95 % bootstrap interval of the image AUROC; the caption names all
    that the protocol does otherwise than the service.
    """
    columns = (
        "image AUROC",
        "95 %",
        "AP",
        "F1-max",
        "pixel AUROC",
        "AUPRO",
        "false positives",
        *(f"{one} alone" for one in LEVELS),
    )
    caption = "; ".join(["percent", "alone: image AUROC of that level's map", *protocol.deviations])
    names = [
        Column(one, min_width=max(len(getattr(row, one)) for row in rows)) for one in ("category", "defects")
    ]
    table = Table(*names, "n", *columns, caption=caption)
    for row in rows:
        figures = row.metrics
        plain = (figures.image_ap, figures.image_f1_max, figures.pixel_auroc, figures.aupro)
        table.add_row(
            row.category,
            row.defects,
            str(row.pictures),
            percent(figures.image_auroc),
            " - ".join(map(percent, row.interval or ())),
            *map(percent, (*plain, row.false_positive_rate)),
            *(percent(row.level_auroc[level]) for level in LEVELS),
        )
    return table


def rows_json(rows: Sequence[Row], protocol: Protocol = SERVED) -> str:
    """The figures, 0..1, and how they were measured, as JSON."""
    content = {"protocol": protocol.as_json(), "rows": [asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def false_positive_rate(scored: Scored, checkpoint: Checkpoint, name: str) -> float | None:
    """The share of the good pictures above the threshold at the checkpoint's alpha; None without any."""
    good = [score for score, one in zip(scored.scores, scored.samples, strict=True) if not one.is_anomalous]
    threshold = conformal_threshold(checkpoint.categories[name].scores, checkpoint.config.calibration.alpha)
    return fmean(float(score > threshold) for score in good) if good else None


def defect_groups(kinds: Sequence[str]) -> dict[str, set[str]]:
    """All defects, kinds that share what stands before the first underscore, and each kind.

    `logical_missing` and `logical_extra` form the group `logical`.
    """
    prefixes = sorted({kind.split("_")[0] for kind in kinds})
    families = {prefix: {kind for kind in kinds if kind.split("_")[0] == prefix} for prefix in prefixes}
    several = {prefix: members for prefix, members in families.items() if len(members) > 1}
    return {ALL: set(kinds), **several, **{kind: {kind} for kind in sorted(kinds)}}


def _judged(checkpoint: Checkpoint, samples: Sequence[Sample], protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Level maps (B, L, h, w) of pictures of one category, and the score (B,) of their distances."""
    detector, spec = checkpoint.detector, checkpoint.config.input
    pixels = torch.from_numpy(np.stack([load_picture(one.path, spec) for one in samples]))
    known = checkpoint.categories
    categories = [known[one.category] for one in samples] if protocol.needs_categories else []
    if protocol.normalise == "calibrated":
        return judged(detector, pixels, categories)
    grid = detector.encoder.grid
    masks = component_masks(protocol.masks, samples, spec, grid) if protocol.masks else None
    return raw_levels(detector, pixels, categories, masks), torch.zeros(len(pixels))


def _category_rows(name: str, scored: Scored, checkpoint: Checkpoint) -> list[Row]:
    size = checkpoint.config.map_size
    masks = [load_mask(one, checkpoint.config.input, size) for one in scored.samples]
    groups = defect_groups(sorted({one.kind for one in scored.samples if one.is_anomalous}))
    return [_row(name, defects, members, scored, masks) for defects, members in groups.items()]


def _row(
    name: str, defects: str, members: set[str], scored: Scored, masks: Sequence[npt.NDArray[np.bool_] | None]
) -> Row:
    """Pictures with these defects against all good ones of the category."""
    chosen = [i for i, one in enumerate(scored.samples) if not one.is_anomalous or one.kind in members]
    labels = np.array([scored.samples[i].is_anomalous for i in chosen])
    scores, level_scores = scored.scores[chosen], scored.level_scores[chosen]
    has_both = labels.any() and not labels.all()
    return Row(
        category=name,
        defects=defects,
        pictures=int(labels.sum()),
        metrics=evaluate(scores, scored.maps[chosen], labels, [masks[i] for i in chosen]),
        interval=bootstrap_interval(labels, scores, auroc) if has_both else None,
        level_auroc={
            level: auroc(labels, level_scores[:, i]) if has_both else None for i, level in enumerate(LEVELS)
        },
    )
