"""From an outcome to a verdict with a promised false-positive rate."""

from dataclasses import dataclass

from export.contract.decision import conformal_threshold, display_score, effective_alpha, p_value
from export.contract.manifest import LEVELS, Level
from service.inference.anomalymoe import Outcome
from service.schemas.findings import CategorySource, LevelShare, Reason


@dataclass(frozen=True)
class Decision:
    """The verdict on one picture.

    raw_score: the larger of the image score and what the distance to the product is worth as one. score:
    the same on the display scale, 0.5 at the threshold. alpha: the false-positive rate that the calibration
    pictures can promise, never below the one asked for. distance_limit: the distance that is worth the
    threshold. pixel_threshold: for the raw map; in a normal picture no pixel is above it, with the same
    promise. For an unknown product the category and what its calibration says about the picture are None,
    but the map keeps the nearest product's threshold.
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
    distance: float
    distance_limit: float
    pixel_threshold: float
    levels: dict[Level, LevelShare]


def decide(outcome: Outcome, alpha: float) -> Decision:
    """Judge an outcome at an accepted false-positive rate. Raises ValueError when alpha is not in 0..1."""
    category = outcome.category
    threshold = conformal_threshold(category.scores, alpha)
    evidence = category.evidence(outcome.distance)
    raw_score = max(outcome.raw_score, evidence)
    reason = _reason(outcome.is_named, is_far=evidence > threshold, is_above=outcome.raw_score > threshold)
    is_known = reason != "unknown_product"
    recognised: CategorySource = "recognised" if is_known else "unknown"
    return Decision(
        category=category.name if is_known else None,
        category_source="request" if outcome.is_named else recognised,
        score=display_score(raw_score, threshold) if is_known else None,
        raw_score=raw_score,
        threshold=threshold if is_known else None,
        p_value=p_value(category.scores, raw_score) if is_known else None,
        alpha=effective_alpha(len(category.scores), alpha),
        is_anomalous=reason is not None,
        reason=reason,
        distance=outcome.distance,
        distance_limit=category.distance_limit(threshold),
        pixel_threshold=conformal_threshold(category.peaks, alpha),
        levels=_levels(outcome, threshold),
    )


def _reason(is_named: bool, *, is_far: bool, is_above: bool) -> Reason | None:
    if is_far:
        return "not_this_product" if is_named else "unknown_product"
    return "score" if is_above else None


def _levels(outcome: Outcome, threshold: float) -> dict[Level, LevelShare]:
    weights = dict.fromkeys(LEVELS, 0.0)
    for expert in outcome.experts:
        weights[expert.level] += expert.weight
    scores: list[float] = outcome.level_scores.tolist()
    return {
        level: LevelShare(display_score(score, threshold), weights[level])
        for level, score in zip(LEVELS, scores, strict=True)
    }
