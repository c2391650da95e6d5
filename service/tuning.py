"""How large batches should be, and how many at once: measured, since often neither gains anything."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

GAIN = 0.95  # a larger batch, or a second one at once, must take at most this much of the time per item
ROUNDS = 3

Case = tuple[int, int]
"""How many items a batch has, and how many batches are computed at once."""


@dataclass(frozen=True)
class Plan:
    """The largest useful batch, how many at once, and the line `seconds_per_item * n + seconds_fixed`."""

    batch: int
    parallel: int
    seconds_per_item: float
    seconds_fixed: float

    def seconds(self, items: int) -> float:
        """How long a batch takes."""
        return self.seconds_per_item * items + self.seconds_fixed

    @property
    def pace_s(self) -> float:
        """Seconds per item of full batches."""
        return self.seconds(self.batch) / self.batch


def make_plan(run: Callable[[int], object], max_batch: int, max_parallel: int, budget_s: float) -> Plan:
    """Time batches of 1, 2, 4, ... up to `max_batch`, then `max_parallel` of the best at once.

    run: computes a batch of so many items, from any thread. budget_s: about how long it may take; the largest
    sizes are left out first.
    """
    stop = perf_counter() + budget_s
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    measured = measure(run, [(size, 1) for size in sizes], stop)
    seconds = {size: measured[size, 1] for size in sizes if (size, 1) in measured}
    batch = best_batch(seconds)
    parallel = 1
    if max_parallel > 1:
        both = measure(run, [(batch, 1), (batch, max_parallel)], stop)
        together = both.get((batch, max_parallel), float("inf")) / max_parallel
        parallel = max_parallel if together < GAIN * both[batch, 1] else 1
    return Plan(batch, parallel, *fit_line(list(seconds), list(seconds.values())))


def measure(run: Callable[[int], object], cases: Sequence[Case], stop: float) -> dict[Case, float]:
    """Seconds each case takes: the shortest of some rounds, in which the cases follow each other.

    What else the machine does only ever makes a round longer. The first case is always measured; after `stop`,
    or when one cannot be computed, nothing more is. Raises: what computing the first case raises.
    """
    shortest: dict[Case, float] = {}
    for _ in range(ROUNDS):
        for case in cases:
            if shortest and perf_counter() > stop:
                return shortest
            try:
                seconds = _seconds(run, *case)
            except Exception:
                if not shortest:
                    raise
                return shortest  # the device has no memory for this one
            shortest[case] = min(shortest.get(case, float("inf")), seconds)
    return shortest


def best_batch(measured: dict[int, float]) -> int:
    """The smallest batch that no larger one beats by more than GAIN, in seconds per item."""
    best = min(measured)
    for size in sorted(measured):
        if measured[size] / size < GAIN * measured[best] / best:
            best = size
    return best


def fit_line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of seconds over sizes, neither below 0; with one size all is slope."""
    if len(sizes) == 1:
        return seconds[0] / sizes[0], 0.0
    slope, intercept = np.polyfit(sizes, seconds, 1)
    if intercept < 0:
        return float(np.dot(sizes, seconds) / np.dot(sizes, sizes)), 0.0
    return max(float(slope), 0.0), float(intercept)


def _seconds(run: Callable[[int], object], size: int, parallel: int) -> float:
    with ThreadPoolExecutor(parallel) as pool:
        began = perf_counter()
        for batch in [pool.submit(run, size) for _ in range(parallel)]:
            batch.result()
        return perf_counter() - began
