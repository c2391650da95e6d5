"""AUROC, AP, F1-max, AUPRO and AUPIMO, image and pixel level, exact with ties.

Every figure is read from one curve: the shares of anomalous and of normal scores at or above a threshold.
Its corners lie at the distinct anomalous scores, so the normal ones are only sorted, in their own precision:
for 500 float32 maps of 256 x 256 that is a copy of 130 MB, and no index array.
Legend: n pictures, H W pixels of a map, P and N the number of anomalous and of normal scores.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

AUPRO_LIMIT = 0.3
AUPIMO_RATES = (1e-5, 1e-4)
AUPIMO_STEPS = 256  # of the curve between both rates
EIGHT_CONNECTED = np.ones((3, 3))


@dataclass(frozen=True)
class Metrics:
    """One category's figures in 0..1; None where only one class is present or no masks are known."""

    image_auroc: float | None
    image_ap: float | None
    image_f1_max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1_max: float | None
    aupro: float | None
    aupimo: float | None = None


@dataclass(frozen=True)
class Ranking:
    """Anomalous scores among the normal ones, one entry per distinct anomalous score, descending.

    weight: summed weight of the anomalous scores equal to this one.
    hits: number of anomalous scores >= this one, 1..P.
    above, reached: number of normal scores > and >= this one, 0..N.
    normal_count: N.
    """

    weight: Floats
    hits: NDArray[np.int64]
    above: NDArray[np.int64]
    reached: NDArray[np.int64]
    normal_count: int

    def area(self, limit: float = 1.0) -> float:
        """Area under (share of normal, weight of anomalous scores found) up to `limit`, divided by `limit`.

        AUROC with equal weights and limit 1. A tie of both classes is a slope, so it counts one half.
        """
        end = limit * self.normal_count
        ties = self.reached - self.above
        slope = np.clip(end - self.above, 0.0, ties) ** 2 / (2 * np.maximum(ties, 1))
        level = np.clip(end - self.reached, 0.0, None)
        return float((slope + level) @ self.weight / (end * self.weight.sum()))

    def average_precision(self) -> float:
        """Precision at every distinct anomalous score, weighted by the recall gained there."""
        return float(self.hits / (self.hits + self.reached) @ self.weight / self.weight.sum())

    def f1_max(self) -> float:
        """Largest F1 over all thresholds; it is always reached at an anomalous score."""
        return float((2 * self.hits / (self.hits + self.reached + self.hits[-1])).max())


def rank(normal: Array, anomalous: Array, weights: Floats | None = None) -> Ranking:
    """Rank anomalous scores (P,) among normal ones (N,); `normal` is sorted in place.

    weights: one positive weight per anomalous score, equal by default.
    Raises ValueError for a missing class and for NaN.
    """
    if not normal.size or not anomalous.size:
        raise ValueError(
            f"only the {'anomalous' if anomalous.size else 'normal'} class is present, both are needed"
        )
    normal.sort()
    thresholds, group, counts = np.unique(anomalous, return_inverse=True, return_counts=True)
    # NaN sorts last, so one look at the end of each array finds it.
    if np.isnan(normal[-1]) or np.isnan(thresholds[-1]):
        raise ValueError("scores contain NaN")
    mass = counts if weights is None else np.bincount(group, weights, minlength=counts.size)
    return Ranking(
        weight=mass[::-1].astype(np.float64),
        hits=counts[::-1].cumsum(),
        above=(normal.size - np.searchsorted(normal, thresholds, side="right"))[::-1],
        reached=(normal.size - np.searchsorted(normal, thresholds, side="left"))[::-1],
        normal_count=normal.size,
    )


def rank_labelled(labels: ArrayLike, scores: ArrayLike) -> Ranking:
    """Rank scores of any shape by boolean labels of the same shape (True: anomalous)."""
    is_anomalous, values = _paired(labels, scores)
    return rank(values[~is_anomalous], values[is_anomalous])


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that an anomalous score exceeds a normal one, ties counting one half."""
    return rank_labelled(labels, scores).area()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall steps, without interpolation."""
    return rank_labelled(labels, scores).average_precision()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """F1 at the best threshold."""
    return rank_labelled(labels, scores).f1_max()


def aupro(masks: ArrayLike, maps: ArrayLike, limit: float = AUPRO_LIMIT) -> float:
    """Area under (false-positive rate, mean per-region overlap) up to `limit`, divided by it; in 0..1.

    masks: bool (n, H, W), regions are 8-connected. maps: (n, H, W). Exact at every score, interpolated at the
    limit. Source: Bergmann et al., 'The MVTec Anomaly Detection Dataset', IJCV 2021.
    """
    is_anomalous, values = _paired(masks, maps)
    weights = np.concatenate([np.empty(0), *map(region_weights, is_anomalous)])
    return rank(values[~is_anomalous], values[is_anomalous], weights).area(limit)


def aupimo(masks: ArrayLike, maps: ArrayLike, rates: tuple[float, float] = AUPIMO_RATES) -> float:
    """Mean over anomalous pictures of the area under (false-positive rate, share of the defect found); 0..1.

    masks: bool (n, H, W). maps: (n, H, W). The rate is that of all pixels of the pictures without a mark, on
    a logarithmic scale between `rates`. Raises ValueError where there are only marked pictures, or none.
    Source: Bertoldo et al., 'AUPIMO: Redefining Visual Anomaly Detection Benchmarks', BMVC 2024.
    """
    is_anomalous, values = _paired(masks, maps)
    is_marked = is_anomalous.any((1, 2))
    if is_marked.all() or not is_marked.any():
        raise ValueError("pictures with and without a marked pixel are needed")
    normal = np.sort(values[~is_marked], axis=None)
    above = np.floor(np.geomspace(*rates, AUPIMO_STEPS + 1) * normal.size).astype(np.int64)
    thresholds = normal[normal.size - 1 - above]
    curves = [share_above(values[i][is_anomalous[i]], thresholds) for i in np.flatnonzero(is_marked)]
    return float(np.mean([(curve[1:] + curve[:-1]) / 2 for curve in curves]))


def share_above(values: Array, thresholds: Array) -> Floats:
    """Share of the values above each threshold."""
    return 1 - np.searchsorted(np.sort(values), thresholds, side="right") / values.size


def region_weights(mask: Mask) -> Floats:
    """1 / (size of its region) for each anomalous pixel of a mask (H, W), in row order."""
    regions = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask, structure=EIGHT_CONNECTED, output=regions)
    members = regions[mask]
    return 1.0 / np.bincount(members)[members]


def mean_metrics(categories: Sequence[Metrics]) -> Metrics:
    """Mean over categories, each figure over the categories that have it."""
    names = [field.name for field in fields(Metrics)]
    return Metrics(**{name: known_mean(getattr(one, name) for one in categories) for name in names})


def known_mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known, None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def resamples(labels: ArrayLike, count: int = 1000, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Rows of pictures drawn with replacement, normal and anomalous ones apart, so that none lacks a class.

    labels: True for anomalous (n,).
    """
    is_anomalous = np.asarray(labels, dtype=bool)
    classes = [rows for label in (False, True) if len(rows := np.flatnonzero(is_anomalous == label))]
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield np.concatenate([generator.choice(members, members.size) for members in classes])


def interval(figures: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a figure from its value in each resample."""
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(labels: ArrayLike, scores: ArrayLike) -> tuple[Mask, Array]:
    is_anomalous, values = np.asarray(labels, dtype=bool), np.asarray(scores)
    if is_anomalous.shape != values.shape:
        raise ValueError(f"labels or masks have shape {is_anomalous.shape}, scores or maps {values.shape}")
    return is_anomalous, values
