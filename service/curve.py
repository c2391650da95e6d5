"""How long computing takes by the number of items: a line, fitted to what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Seconds of n items: `each_s * n + fixed_s`."""

    each_s: float
    fixed_s: float

    def seconds(self, items: int) -> float:
        """How long so many items take."""
        return self.each_s * items + self.fixed_s

    def times(self, factor: float) -> "Curve":
        """Of what takes so many times as long."""
        return Curve(self.each_s * factor, self.fixed_s * factor)


def fit_curve(measured: Mapping[int, float]) -> Curve:
    """The line through seconds by number of items, neither part below 0; with one number all is slope."""
    sizes, seconds = list(measured), list(measured.values())
    if len(sizes) == 1:
        return Curve(seconds[0] / sizes[0], 0.0)
    slope, intercept = np.polyfit(sizes, seconds, 1)
    if intercept < 0:
        return Curve(float(np.dot(sizes, seconds) / np.dot(sizes, sizes)), 0.0)
    return Curve(max(float(slope), 0.0), float(intercept))
