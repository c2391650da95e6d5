"""Drift of one product: ranks among all pictures so far, and evidence against their being by chance.

Growing reference: the rank of a picture's number among the calibration's and all earlier ones, ties broken
by chance, is uniform and independent of all earlier ranks while the numbers are exchangeable, however few the
calibration pictures were (smoothed conformal p-values; Vovk, Gammerman, Shafer, Algorithmic Learning in a
Random World, 2005). E-detector: the mean over streams and shifts of Shiryaev-Roberts statistics of the ranks.
Less the number of pictures it is a martingale, so L pictures or more pass in the mean before it reaches L
(Shin, Ramdas, Rinaldo, arXiv 2203.03532).
"""

import math
import random
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

PER_OCTAVE = 128  # bins by which a number doubles: values within half a percent count as equal
SMALLEST = 2.0**-20
BINS = 40 * PER_OCTAVE
SHIFTS = np.array((-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0))  # in standard deviations of normal pictures
MOST = 1e100  # a statistic that is far beyond any limit

_NORMAL = NormalDist()

FloatArray = npt.NDArray[np.float64]


class Ranks:
    """How many numbers there were, by bins that do not depend on them."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.counts = np.zeros(BINS, np.int64)
        for value in values:
            self.counts[bin_of(value)] += 1
        self.total = int(self.counts.sum())

    def p_value(self, value: float) -> float:
        """The share of higher ones among those so far and this one, which is then one of them.

        Equal ones count by chance. Uniform on 0..1 and independent of earlier results for exchangeable
        numbers.
        """
        place = bin_of(value)
        higher, equal = int(self.counts[place + 1 :].sum()), int(self.counts[place]) + 1
        self.counts[place] += 1
        self.total += 1
        return (higher + random.random() * equal) / self.total


class Stream:
    """Evidence that one number of each picture has changed: a statistic for each of SHIFTS."""

    def __init__(self, reference: Iterable[float] = ()) -> None:
        self.ranks = Ranks(reference)
        self.statistics: FloatArray = np.zeros(len(SHIFTS))

    @property
    def statistic(self) -> float:
        """Their mean; before any change its expectation is the number of pictures."""
        return float(self.statistics.mean())

    def add(self, value: float) -> None:
        """Look at the next picture.

        The likelihood ratio of a shift by d standard deviations, exp(d z - d^2 / 2) with z the normal
        quantile of the rank, has expectation 1 while nothing has changed.
        """
        z = -_NORMAL.inv_cdf(min(max(self.ranks.p_value(value), 1e-12), 1 - 1e-12))
        ratios = np.exp(SHIFTS * z - SHIFTS**2 / 2)
        self.statistics = np.minimum((1 + self.statistics) * ratios, MOST)


def bin_of(value: float) -> int:
    """The bin of a number: logarithmic, the first for all that is small or no number above 0."""
    if not value > SMALLEST:
        return 0
    return int(min(PER_OCTAVE * math.log2(value / SMALLEST), BINS - 1))
