"""How large batches should be, and how many at once: measured, since often neither gains anything."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

GAIN = 0.95  # a larger batch, or a second one at once, must take at most this much of the time per item
ROUNDS = 3

Timer = Callable[[int, int], float]
"""Gives the seconds that so many items take, in each of so many batches at once."""

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


def make_plan(timer: Timer, max_batch: int, max_parallel: int, budget_s: float) -> Plan:
    """Time batches of 1, 2, 4, ... up to `max_batch`, then `max_parallel` of the best at once.

    budget_s: about how long it may take. Raises: what computing a single item raises.
    """
    stop = perf_counter() + budget_s
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    promising = _first_round(timer, sizes, stop)
    measured = _rounds(timer, [(size, 1) for size in promising], stop)
    seconds = {size: min(took, measured.get((size, 1), took)) for size, took in promising.items()}
    batch = best_batch(seconds)
    both = _rounds(timer, [(batch, 1), (batch, max_parallel)], stop) if max_parallel > 1 else {}
    gains = (batch, max_parallel) in both and both[batch, max_parallel] / max_parallel < GAIN * seconds[batch]
    return Plan(batch, max_parallel if gains else 1, *fit_line(list(seconds), list(seconds.values())))


def _first_round(timer: Timer, sizes: Sequence[int], stop: float) -> dict[int, float]:
    """Seconds of ever larger batches, until two of them gain nothing or one does not fit into memory.

    Larger ones would only make the runtime keep more memory.
    """
    seconds = {sizes[0]: timer(sizes[0], 1)}
    misses = 0
    for size in sizes[1:]:
        best = min(took / items for items, took in seconds.items())
        if misses == 2 or perf_counter() > stop:
            break
        try:
            seconds[size] = timer(size, 1)
        except Exception:  # whatever the runtime raises, this size is not one to choose
            break
        misses = 0 if seconds[size] / size < GAIN * best else misses + 1
    return seconds


def _rounds(timer: Timer, cases: Sequence[Case], stop: float) -> dict[Case, float]:
    """Seconds each case takes: the shortest of some rounds, in which the cases follow each other.

    What else the machine does only ever makes a round longer. After `stop` nothing is measured any more, nor
    after a case that cannot be computed.
    """
    shortest: dict[Case, float] = {}
    for _ in range(ROUNDS):
        for case in cases:
            if perf_counter() > stop:
                return shortest
            try:
                seconds = timer(*case)
            except Exception:  # two at once may not fit where one does
                return shortest
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


def time_batches(run: Callable[[int], object], size: int, parallel: int) -> float:
    """Seconds until `parallel` batches of `size` items are computed at once; `run` computes one."""
    with ThreadPoolExecutor(parallel) as pool:
        began = perf_counter()
        for batch in [pool.submit(run, size) for _ in range(parallel)]:
            batch.result()
        return perf_counter() - began
