"""From an outcome to a verdict with a promised false-positive rate."""

from dataclasses import dataclass

from export.contract.decision import conformal_threshold, display_score, effective_alpha, p_value
from export.contract.manifest import LEVELS, Level
from service.engine import Outcome
from service.findings import CategorySource, LevelShare, Reason


@dataclass(frozen=True)
class Decision:
    """The verdict on one picture.

    score: raw_score on the display scale, 0.5 at the threshold. alpha: the false-positive rate that the
    calibration pictures can promise, never below the one asked for. pixel_threshold: for the raw map; in
    a normal picture no pixel is above it, with the same promise. For an unknown product the category and
    what its calibration says about the picture are None, but the map keeps the nearest product's threshold.
    """

    category: str | None
    category_source: CategorySource
    score: float | None
    raw_score: float
    threshold: float | None
    p_value: float | None
    alpha: float
    is_anomalous: bool
    reason: Reason | None
    pixel_threshold: float
    levels: dict[Level, LevelShare]


def decide(outcome: Outcome, alpha: float) -> Decision:
    """Judge an outcome at an accepted false-positive rate. Raises ValueError when alpha is not in 0..1."""
    category = outcome.category
    threshold = conformal_threshold(category.scores, alpha)
    is_known = outcome.category_source != "unknown"
    is_above = outcome.raw_score > threshold
    above: Reason | None = "score" if is_above else None
    return Decision(
        category=category.name if is_known else None,
        category_source=outcome.category_source,
        score=display_score(outcome.raw_score, threshold) if is_known else None,
        raw_score=outcome.raw_score,
        threshold=threshold if is_known else None,
        p_value=p_value(category.scores, outcome.raw_score) if is_known else None,
        alpha=effective_alpha(len(category.scores), alpha),
        is_anomalous=is_above or not is_known,
        reason=above if is_known else "unknown_product",
        pixel_threshold=conformal_threshold(category.peaks, alpha),
        levels=_levels(outcome, threshold),
    )


def _levels(outcome: Outcome, threshold: float) -> dict[Level, LevelShare]:
    weights = dict.fromkeys(LEVELS, 0.0)
    for expert in outcome.experts:
        weights[expert.level] += expert.weight
    scores: list[float] = outcome.level_scores.tolist()
    return {
        level: LevelShare(display_score(score, threshold), weights[level])
        for level, score in zip(LEVELS, scores, strict=True)
    }
