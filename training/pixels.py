"""Pixel figures of any number of pictures: how many pixels have which map value, added picture by picture.

Legend: H W pixels of a map, m distinct values.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.metrics import AUPIMO_RATES, AUPIMO_STEPS, Floats, Mask, Ranking, region_weights, share_above

Map = NDArray[np.floating]
MOST_VALUES = 2**21
_SIGN = np.uint32(1 << 31)


@dataclass(eq=False)
class PixelCounts:
    """Normal and anomalous pixels by value, exact while at most `most` values differ.

    Beyond that the last bits of the float32 numbers are dropped until so many are left, and merged values are
    ties: values that spread over a factor of 1000 keep 17 bits of their fraction, so differ by 1e-5 of it.
    keys uint32 (m,): float32 values as integers in the same order. columns (m, 3): normal pixels, anomalous
    ones, and weights of those, 1 / size of their region.
    """

    most: int = MOST_VALUES
    keys: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    columns: Floats = field(default_factory=lambda: np.empty((0, 3)))
    _dropped: int = 0
    _pending: list[tuple[NDArray[np.uint32], Floats]] = field(default_factory=list)

    def add(self, map_HW: Map, mask_HW: Mask) -> None:
        """Count a picture. Raises ValueError for NaN and for a mask of another shape."""
        if map_HW.shape != mask_HW.shape:
            raise ValueError(f"mask has shape {mask_HW.shape}, its map {map_HW.shape}")
        if np.isnan(map_HW).any():
            raise ValueError("scores contain NaN")
        columns = np.zeros((map_HW.size, 3))
        marked = mask_HW.ravel()
        columns[:, 0], columns[:, 1] = ~marked, marked
        columns[marked, 2] = region_weights(mask_HW)
        self._pending.append((_keys(map_HW), columns))
        if sum(len(keys) for keys, _ in self._pending) > self.most:
            self._merge()

    def merged(self) -> "PixelCounts":
        """Itself, with nothing left to count."""
        if self._pending:
            self._merge()
        return self

    def ranking(self, *, by_region: bool = False) -> Ranking | None:
        """As `rank` of all pixels, by_region weighted as AUPRO is; None unless there are both states."""
        normal, anomalous, weight = self.merged().columns[::-1].T
        reached, rows = normal.cumsum(), anomalous > 0
        if not rows.any() or not reached[-1]:
            return None
        return Ranking(
            weight=(weight if by_region else anomalous)[rows],
            hits=anomalous.cumsum()[rows].astype(np.int64),
            above=(reached - normal)[rows].astype(np.int64),
            reached=reached[rows].astype(np.int64),
            normal_count=int(reached[-1]),
        )

    def thresholds(self, rates: tuple[float, float] = AUPIMO_RATES) -> Floats:
        """Values that shares of the normal pixels exceed, from rate to rate on a logarithmic scale."""
        counts = self.merged().columns[::-1, 0].cumsum()
        above = np.floor(np.geomspace(*rates, AUPIMO_STEPS + 1) * counts[-1])
        return _values(self.keys[::-1][np.searchsorted(counts, above, side="right")])

    def _merge(self) -> None:
        parts = [(self.keys, self.columns), *self._pending]
        keys, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        self._pending = []
        while True:
            kept = (keys >> self._dropped << self._dropped).astype(np.uint32)
            values, place = np.unique(kept, return_inverse=True)
            if len(values) <= self.most:
                break
            self._dropped += 1
        self.keys = values
        sums = [np.bincount(place, one, len(values)) for one in columns.T]
        self.columns = np.stack(sums, 1).astype(np.float64)


def joined(parts: Iterable[PixelCounts]) -> PixelCounts:
    """The pixels of several together."""
    merged = [one.merged() for one in parts]
    most = max(one.most for one in merged)
    total = PixelCounts(most, _dropped=max(one._dropped for one in merged))
    total._pending = [(one.keys, one.columns) for one in merged]
    return total.merged()


def share_found(map_HW: Map, mask_HW: Mask, thresholds: Floats) -> float:
    """Area under (rate of `thresholds`, share of the defect above), AUPIMO of one picture."""
    curve = share_above(map_HW[mask_HW], thresholds)
    return float(((curve[1:] + curve[:-1]) / 2).mean())


def _keys(values: Map) -> NDArray[np.uint32]:
    """float32 numbers as integers in the same order: of negative ones all bits are turned, else the sign."""
    bits = (values.astype(np.float32, copy=False).ravel() + 0.0).view(np.uint32)  # -0 becomes 0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _values(keys: NDArray[np.uint32]) -> Floats:
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).astype(np.uint32).view(np.float32).astype(np.float64)
