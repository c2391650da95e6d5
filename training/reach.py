"""How far the normal pictures of a product look from each other, by statistics of their pixels.

Legend: n pictures, F statistics of appearance.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.contract.appearance import FloatArray, Whitening, fit_whitening

FOLDS = 5
RADIUS_MARGIN = 1.1  # a picture this much further away than any calibration picture is another product
RADIUS_MARGIN_OF_FEW = 2.0  # more, over the root of their number: few hardly show how far others may be

Rows = npt.NDArray[np.bool_]


class VisualReach(NamedTuple):
    """A product's whitening, scaled to distance 1 for what is another product, and its pictures' (n,)."""

    whitening: Whitening
    distances: FloatArray


def margin(pictures: int) -> float:
    """How many times as far as the farthest of so many pictures another product begins."""
    return RADIUS_MARGIN + RADIUS_MARGIN_OF_FEW / pictures**0.5


def folds(pictures: int) -> Iterator[tuple[Rows, Rows]]:
    """The rows of each fold and those of all others; a single picture is its own other."""
    numbers = np.arange(pictures)
    for fold in range(min(FOLDS, pictures)):
        inside = numbers % FOLDS == fold
        yield inside, ~inside if pictures > 1 else inside


def visual_reach(looks_nF: FloatArray) -> VisualReach:
    """Each picture is measured by all others."""
    distances = np.zeros(len(looks_nF), np.float32)
    for inside, others in folds(len(looks_nF)):
        distances[inside] = fit_whitening(looks_nF[others]).distance(looks_nF[inside])
    mean, matrix = fit_whitening(looks_nF)
    smallest = np.sqrt(len(mean))  # at least the smallest deviation of each statistic
    radius = max(margin(len(looks_nF)) * float(distances.max()), smallest)
    matrix, distances = (one.astype(np.float32) for one in (matrix / radius, distances / radius))
    return VisualReach(Whitening(mean, matrix), distances)
