"""`anomoe-train evaluate`: a checkpoint on test pictures, by category and by kind of defect."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from rich.table import Column, Table
from torch import Tensor

from export.contract.decision import conformal_threshold
from export.contract.manifest import LEVELS, InputSpec
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
    """Test pictures of one category with their scores (n,), level scores (n, 3) and maps (n, Hm, Wm).

    alarms: bool (n,), verdicts as served. pixel_threshold: of the maps. None where nothing was calibrated.
    """

    samples: list[Sample]
    scores: npt.NDArray[np.float32]
    level_scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
    alarms: npt.NDArray[np.bool_] | None = None
    pixel_threshold: float | None = None


Scoring = Callable[[list[Sample]], Scored]
"""Scores the test pictures of one category, by a checkpoint or by anything else."""


def score_samples(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    progress: Progress,
    protocol: Protocol = SERVED,
    batch: int = BATCH,
) -> Scored:
    """Score the test pictures of one category, by default as the service would when told the category."""
    head = Head(checkpoint.config.map_size, checkpoint.detector.encoder.grid)
    starts = range(0, len(samples), batch)
    tracked = progress.track(starts, description=f"score {samples[0].category}")
    with on_training_device(checkpoint.detector):
        parts = [_judged(checkpoint, samples[start : start + batch], protocol) for start in tracked]
    levels_nLhw, evidence_n, gates_nL = (torch.cat(column) for column in zip(*parts, strict=True))
    spec = checkpoint.config.input
    if protocol.normalise == "test-minmax":
        levels_nLhw = min_max(levels_nLhw)
    elif protocol.normalise == "released":
        levels_nLhw = min_max(levels_nLhw, (spec.height, spec.width)) * gates_nL[..., None, None]
    outputs = [head(part) for part in levels_nLhw.split(BATCH)]
    maps, scores, level_scores = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
    scores = np.maximum(scores, evidence_n.numpy())
    if protocol.normalise != "calibrated":
        return Scored(list(samples), scores, level_scores, maps)
    category, alpha = checkpoint.categories[samples[0].category], checkpoint.config.calibration.alpha
    alarms = scores > conformal_threshold(category.scores, alpha)
    return Scored(
        list(samples), scores, level_scores, maps, alarms, conformal_threshold(category.peaks, alpha)
    )


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data: Place,
    progress: Progress,
    protocol: Protocol = SERVED,
    batch: int = BATCH,
) -> list[Row]:
    """Figures of every category with test pictures, then their means; see `defect_groups`.

    protocol: how pictures are prepared and maps scaled; the service's by default. batch: pictures at a time.
    Raises DataError when there are none, and for a category the checkpoint does not know but has to.
    """
    checkpoint = prepared(checkpoint, data, protocol, progress)
    known = checkpoint.categories if protocol.needs_categories else None
    spec = checkpoint.config.input

    def score(members: list[Sample]) -> Scored:
        return score_samples(checkpoint, members, progress, protocol, batch)

    return evaluate_scoring(score, data, spec, known)


def evaluate_scoring(
    score: Scoring, data: Place, spec: InputSpec, known: Collection[str] | None = None
) -> list[Row]:
    """As `evaluate_checkpoint`, of anything that scores the pictures of a category, prepared as `spec` says.

    known: the categories that it can score, by default all.
    """
    test = [sample for sample in find_samples(data) if sample.split == "test"]
    if not test:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    rows: list[Row] = []
    for name in sorted({sample.category for sample in test}):
        if known is not None and name not in known:
            raise DataError(f"{data}: category {name!r} is not known, but {', '.join(known)}")
        rows += _category_rows(name, score([one for one in test if one.category == name]), spec)
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
        "AUPIMO",
        "pixel F1",
        "false positives",
        "recall",
        *(f"{one} alone" for one in LEVELS),
    )
    caption = "; ".join(
        [
            "percent",
            "alone: image AUROC of that level's map",
            "pixel F1, false positives, recall: at the served thresholds",
            *protocol.deviations,
        ]
    )
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
            *map(percent, (*plain, figures.aupimo, row.pixel_f1, row.false_positive_rate, row.recall)),
            *(percent(row.level_auroc[level]) for level in LEVELS),
        )
    return table


def rows_json(rows: Sequence[Row], protocol: Protocol = SERVED) -> str:
    """The figures, 0..1, and how they were measured, as JSON."""
    content = {"protocol": protocol.as_json(), "rows": [asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def defect_groups(kinds: Sequence[str]) -> dict[str, set[str]]:
    """All defects, kinds that share what stands before the first underscore, and each kind.

    `logical_missing` and `logical_extra` form the group `logical`.
    """
    prefixes = sorted({kind.split("_")[0] for kind in kinds})
    families = {prefix: {kind for kind in kinds if kind.split("_")[0] == prefix} for prefix in prefixes}
    several = {prefix: members for prefix, members in families.items() if len(members) > 1}
    return {ALL: set(kinds), **several, **{kind: {kind} for kind in sorted(kinds)}}


def _judged(
    checkpoint: Checkpoint, samples: Sequence[Sample], protocol: Protocol
) -> tuple[Tensor, Tensor, Tensor]:
    """Level maps (B, L, h, w) of pictures of one category, the score (B,) of their distances, gates (B, L).

    The gates are the largest of each level where maps are not calibrated, else 1.
    """
    detector, spec = checkpoint.detector, checkpoint.config.input
    pixels = torch.from_numpy(np.stack([load_picture(one.path, spec) for one in samples]))
    known = checkpoint.categories
    categories = [known[one.category] for one in samples] if protocol.needs_categories else []
    if protocol.normalise == "calibrated":
        levels, evidence = judged(detector, pixels, categories)
        return levels, evidence, levels.new_ones(levels.shape[:2])
    grid = detector.encoder.grid
    masks = component_masks(protocol.masks, samples, spec, grid) if protocol.masks else None
    raw = raw_levels(detector, pixels, categories, masks)
    return raw.levels, torch.zeros(len(pixels)), raw.gates


def _category_rows(name: str, scored: Scored, spec: InputSpec) -> list[Row]:
    height, width = scored.maps.shape[1:]
    masks = [load_mask(one, spec, (height, width)) for one in scored.samples]
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
    alarms = None if scored.alarms is None else scored.alarms[chosen]
    pixel_f1, pixel_iou = _at_threshold(scored, chosen, masks)
    return Row(
        category=name,
        defects=defects,
        pictures=int(labels.sum()),
        metrics=evaluate(scores, scored.maps[chosen], labels, [masks[i] for i in chosen]),
        interval=bootstrap_interval(labels, scores, auroc) if has_both else None,
        level_auroc={
            level: auroc(labels, level_scores[:, i]) if has_both else None for i, level in enumerate(LEVELS)
        },
        false_positive_rate=_share(alarms, ~labels),
        dataset=scored.samples[0].dataset,
        recall=_share(alarms, labels),
        pixel_f1=pixel_f1,
        pixel_iou=pixel_iou,
    )


def _share(alarms: npt.NDArray[np.bool_] | None, of: npt.NDArray[np.bool_]) -> float | None:
    return None if alarms is None or not of.any() else float(alarms[of].mean())


def _at_threshold(
    scored: Scored, chosen: Sequence[int], masks: Sequence[npt.NDArray[np.bool_] | None]
) -> tuple[float | None, float | None]:
    """F1 and intersection over union of all pixels above the served threshold, with the marked ones."""
    if scored.pixel_threshold is None:
        return None, None
    pairs = [
        (scored.maps[i] > scored.pixel_threshold, mask) for i in chosen if (mask := masks[i]) is not None
    ]
    both = sum(int((found & mask).sum()) for found, mask in pairs)
    either = sum(int((found | mask).sum()) for found, mask in pairs)
    if not any(mask.any() for _, mask in pairs):
        return None, None
    return 2 * both / (both + either), both / either
