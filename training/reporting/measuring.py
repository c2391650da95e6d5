"""Scores and maps of test pictures to figures, category by category, one map in memory at a time.

Legend: n pictures, L levels, Hm Wm map.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.contract.manifest import LEVELS, InputSpec
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_mask
from training.metrics import AUPRO_LIMIT, Metrics, auroc, interval, rank_labelled, resamples
from training.pixels import PixelCounts, joined, share_found
from training.reporting.rows import ALL, Row, mean_rows
from training.reporting.scored import Bools, Floats, Scored, Scoring
from training.reporting.sheets import draw_examples


def find_test_samples(data: Place) -> list[Sample]:
    """The test pictures of a data set. Raises DataError when there are none."""
    found = [one for one in find_samples(data) if one.split == "test"]
    if not found:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    return found


def measure(
    score: Scoring,
    data: Place,
    spec: InputSpec,
    known: Collection[str] | None = None,
    sheets: Path | None = None,
) -> list[Row]:
    """Figures of every category with test pictures, then their means; see `defect_groups`.

    spec: how the pictures are prepared. known: the categories that can be scored, by default all. sheets:
    folder for examples of each category. Raises DataError when there are no test pictures, and for a
    category that is not known.
    """
    rows: list[Row] = []
    for name, members in by_category(find_test_samples(data)).items():
        if known is not None and name not in known:
            raise DataError(f"{data}: category {name!r} is not known, but {', '.join(known)}")
        rows += category_rows(name, score(members), spec, sheets)
    return rows + mean_rows(rows)


def by_category(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The pictures of each category, good ones first."""
    ordered = sorted(samples, key=lambda one: (one.category, one.is_anomalous))
    names = dict.fromkeys(one.category for one in ordered)
    return {name: [one for one in ordered if one.category == name] for name in names}


def category_rows(
    name: str, scored: Scored, spec: InputSpec, sheets: Path | None = None, *, all_only: bool = False
) -> list[Row]:
    """A row for each group of defects; all_only: for all of them together."""
    kinds = sorted({one.kind for one in scored.samples if one.is_anomalous})
    groups = {ALL: set(kinds)} if all_only else defect_groups(kinds)
    pixels = _pixels_by_kind(scored, spec)
    if sheets:
        draw_examples(scored, spec, sheets)
    return [_row(name, defects, members, scored, pixels) for defects, members in groups.items()]


def defect_groups(kinds: Sequence[str]) -> dict[str, set[str]]:
    """All defects, kinds that share what stands before the first underscore, and each kind.

    `logical_missing` and `logical_extra` form the group `logical`.
    """
    prefixes = sorted({kind.split("_")[0] for kind in kinds})
    families = {prefix: {kind for kind in kinds if kind.split("_")[0] == prefix} for prefix in prefixes}
    several = {prefix: members for prefix, members in families.items() if len(members) > 1}
    return {ALL: set(kinds), **several, **{kind: {kind} for kind in sorted(kinds)}}


@dataclass(eq=False)
class _Pixels:
    """Pixels of the pictures of a kind. Of each anomalous one with its defect marked: its AUPIMO; of every
    one the pixels above the threshold that are marked, and those that are either."""

    counts: PixelCounts = field(default_factory=PixelCounts)
    shares: list[float] = field(default_factory=list)
    hits: list[tuple[int, int]] = field(default_factory=list)


_GOOD = ""


def _pixels_by_kind(scored: Scored, spec: InputSpec) -> dict[str, _Pixels]:
    """By kind of defect, `_GOOD` for none; pictures whose mask is not known are left out."""
    found: dict[str, _Pixels] = {_GOOD: _Pixels()}
    rates: Floats | None = None
    for sample, map_HW in zip(scored.samples, scored.maps, strict=True):
        mask_HW = load_mask(sample, spec, (map_HW.shape[0], map_HW.shape[1]))
        if mask_HW is None:
            continue
        of_kind = found.setdefault(sample.kind if sample.is_anomalous else _GOOD, _Pixels())
        of_kind.counts.add(map_HW, mask_HW)
        if scored.pixel_threshold is not None:
            above = map_HW > scored.pixel_threshold
            of_kind.hits.append((int((above & mask_HW).sum()), int((above | mask_HW).sum())))
        if mask_HW.any() and found[_GOOD].counts.merged().keys.size:
            rates = found[_GOOD].counts.thresholds() if rates is None else rates
            of_kind.shares.append(share_found(map_HW, mask_HW, rates))
    return found


class _Picked(NamedTuple):
    """The pictures that a row is of."""

    labels: Bools
    scores: Floats
    level_scores: Floats
    alarms: Bools | None


def _row(name: str, defects: str, members: set[str], scored: Scored, pixels: Mapping[str, _Pixels]) -> Row:
    """Pictures with these defects against all good ones of the category."""
    chosen = [i for i, one in enumerate(scored.samples) if not one.is_anomalous or one.kind in members]
    labels = np.array([scored.samples[i].is_anomalous for i in chosen])
    alarms = None if scored.alarms is None else scored.alarms[chosen]
    picked = _Picked(labels, scored.scores[chosen], scored.level_scores[chosen], alarms)
    parts = [pixels[kind] for kind in (_GOOD, *sorted(members)) if kind in pixels]
    figures = _image_figures(picked) | _pixel_figures(parts)
    draws = _image_draws(picked) | _pixel_draws(parts)
    has_both = labels.any() and not labels.all()
    levels = zip(LEVELS, picked.level_scores.T, strict=False)  # none of a method without levels
    return Row(
        category=name,
        defects=defects,
        pictures=int(labels.sum()),
        metrics=Metrics(**{one: figures.get(one) for one in Metrics.__dataclass_fields__}),
        level_auroc={level: auroc(labels, one) if has_both else None for level, one in levels},
        false_positive_rate=figures.get("false_positive_rate"),
        dataset=scored.samples[0].dataset,
        recall=figures.get("recall"),
        pixel_f1=figures.get("pixel_f1"),
        pixel_iou=figures.get("pixel_iou"),
        intervals={one: interval(values) for one, values in draws.items()},
        draws=draws,
    )


def _image_figures(picked: _Picked) -> dict[str, float]:
    """What is told of whole pictures, as far as both states, or one of them, are there."""
    labels, alarms = picked.labels, picked.alarms
    found: dict[str, float] = {}
    if labels.any() and not labels.all():
        ranking = rank_labelled(labels, picked.scores)
        found |= {
            "image_auroc": ranking.area(),
            "image_ap": ranking.average_precision(),
            "image_f1_max": ranking.f1_max(),
        }
    if alarms is not None:
        shares = {"false_positive_rate": ~labels, "recall": labels}
        found |= {one: float(alarms[of].mean()) for one, of in shares.items() if of.any()}
    return found


def _image_draws(picked: _Picked) -> dict[str, npt.NDArray[np.float64]]:
    """The same of each resample of the pictures."""
    drawn = [
        _image_figures(_Picked(picked.labels[rows], picked.scores[rows], picked.level_scores, alarms))
        for rows in resamples(picked.labels)
        for alarms in [None if picked.alarms is None else picked.alarms[rows]]
    ]
    return {name: np.array([one[name] for one in drawn]) for name in drawn[0]}


def _pixel_figures(parts: Sequence[_Pixels]) -> dict[str, float]:
    """What is told of pixels; both rankings are of all pixels of the pictures."""
    counts = joined(one.counts for one in parts)
    found: dict[str, float] = {}
    ranking, regions = counts.ranking(), counts.ranking(by_region=True)
    if ranking is not None and regions is not None:
        found |= {
            "pixel_auroc": ranking.area(),
            "pixel_ap": ranking.average_precision(),
            "pixel_f1_max": ranking.f1_max(),
            "aupro": regions.area(AUPRO_LIMIT),
        }
    hits = np.array([hit for one in parts for hit in one.hits])
    if len(hits) and counts.columns[:, 1].any():
        found |= _at_threshold(hits)
    shares = [share for one in parts for share in one.shares]
    return found | ({"aupimo": float(np.mean(shares))} if shares else {})


def _pixel_draws(parts: Sequence[_Pixels]) -> dict[str, npt.NDArray[np.float64]]:
    """Of each resample what is a sum over pictures; rankings of all pixels would have to be made anew."""
    good, *anomalous = (np.array(one.hits, np.int64).reshape(-1, 2) for one in parts)
    shares = np.array([share for one in parts for share in one.shares])
    hits = np.concatenate([good, *anomalous])
    labels = np.arange(len(hits)) >= len(good)
    found: dict[str, npt.NDArray[np.float64]] = {}
    if hits[labels].any():
        drawn = [_at_threshold(hits[rows]) for rows in resamples(labels)]
        found |= {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
    if len(shares):
        rows_of = resamples(np.ones(len(shares)))
        found["aupimo"] = np.array([shares[rows].mean() for rows in rows_of])
    return found


def _at_threshold(hits: npt.NDArray[np.int64]) -> dict[str, float]:
    """F1 and intersection over union of all pixels above the served threshold, with the marked ones."""
    both, either = hits.sum(0)
    return {"pixel_f1": float(2 * both / max(both + either, 1)), "pixel_iou": float(both / max(either, 1))}
