"""From raw errors to a verdict with a promised false-positive rate (split conformal prediction)."""

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from export.contract.category import Category, FloatArray

_SMALLEST = np.finfo(np.float32).tiny  # libraries may have the processor take smaller ones for zero

Number = TypeVar("Number", float, FloatArray)


def calibrate(error: FloatArray, offset: float | FloatArray, scale: float | FloatArray) -> FloatArray:
    """Bring the errors of different experts to one scale: max((error - offset) / scale, 0)."""
    return np.maximum((error - offset) / scale, 0).astype(np.float32, copy=False)


def conformal_threshold(scores: npt.NDArray[np.floating], alpha: float) -> float:
    """The k-th smallest calibration score, k = ceil((n + 1)(1 - alpha)) clipped to n.

    scores (n,): ascending scores of normal pictures that took no part in training.
    A normal picture scores above the result with probability at most `effective_alpha(n, alpha)`.
    Raises ValueError when there is no score or alpha is not between 0 and 1.
    """
    n = len(scores)
    if n == 0:
        raise ValueError("scores: at least one calibration score is needed, got none")
    # The small step down keeps rounding noise in (n + 1)(1 - alpha) from reaching the next integer.
    rank = math.ceil((n + 1) * (1 - _checked(alpha)) - 1e-9)
    return float(scores[min(max(rank, 1), n) - 1])


def effective_alpha(n: int, alpha: float) -> float:
    """The false-positive rate that n calibration pictures can promise: never below 1 / (n + 1)."""
    return max(_checked(alpha), 1 / (n + 1))


def p_value(scores: npt.NDArray[np.floating], raw: float) -> float:
    """How often a normal picture scores this high: (1 + #{scores >= raw}) / (n + 1); scores ascend."""
    higher = len(scores) - int(np.searchsorted(scores, raw, side="left"))
    return (1 + higher) / (len(scores) + 1)


def display_score(raw: Number, threshold: float) -> Number:
    """Map raw scores >= 0 to 0..1 with 0.5 at the threshold: raw / (raw + threshold), 0 / 0 = 0."""
    if isinstance(raw, np.ndarray):
        return np.divide(raw, np.maximum(raw + np.float32(threshold), _SMALLEST))
    return raw / (raw + threshold) if raw + threshold > 0 else 0.0


def nearest_category(
    cls: FloatArray, appearance: FloatArray, categories: Iterable[Category]
) -> tuple[Category, float]:
    """The category that a picture is nearest to by cls token (D,) and appearance (F,), with the distance.

    Raises ValueError when there are no categories.
    """
    distances = [(category, category.distance(cls, appearance)) for category in categories]
    if not distances:
        raise ValueError("categories: at least one is needed, got none")
    return min(distances, key=lambda one: one[1])


def _checked(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: must be between 0 and 1, got {alpha}")
    return alpha
