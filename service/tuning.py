"""How large batches should be, and how many at once: measured, since often neither gains anything."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from time import perf_counter
from typing import TypeVar

from service.curve import Curve, fit_curve

GAIN = 0.95  # a larger batch, or a second one at once, must take at most this much of the time per item
PATIENCE = 1.02  # fewer threads may let a single item take so many times as long
ROUNDS = 3
LONG_ENOUGH_S = 0.05

Key = TypeVar("Key")

Timer = Callable[[int, int], float]
"""Gives the seconds that so many items take, in each of so many batches at once."""

Case = tuple[int, int]
"""How many items a batch has, and how many batches are computed at once."""


@dataclass(frozen=True)
class Plan:
    """The largest useful batch, how many at once, on how many threads a batch that computes alone.

    threads_shared: of each of several at once, 0 where that is the same. curve: of one batch alone. alone_s:
    seconds of a single item. pace_s: seconds per item at work.
    """

    batch: int
    parallel: int
    curve: Curve
    alone_s: float
    pace_s: float
    threads: int = 1
    threads_shared: int = 0

    @property
    def batch_s(self) -> float:
        """Seconds of a full batch."""
        return self.curve.seconds(self.batch)

    def is_better(self, other: "Plan") -> bool:
        """Whether it gains against the other, and lets a single item hardly wait longer."""
        return self.alone_s <= PATIENCE * other.alone_s and self.pace_s < GAIN * other.pace_s

    def gains_at_once(self, other: "Plan") -> bool:
        """Whether several batches at once gain against the other."""
        return self.parallel > 1 and self.pace_s < GAIN * other.pace_s

    def shared_by(self, other: "Plan") -> "Plan":
        """A single batch as here, several at once as in the other plan."""
        batches = {"batch": other.batch, "parallel": other.parallel, "pace_s": other.pace_s}
        return replace(self, **batches, threads_shared=other.threads)


def make_plan(timer: Timer, max_batch: int, max_parallel: int, budget_s: float) -> Plan:
    """Time batches of 1, 2, 4, ... up to `max_batch`, then `max_parallel` at once, single items and the best.

    budget_s: about how long it may take. Raises: what computing a single item raises.
    """
    stop = perf_counter() + budget_s
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    promising = _first_round(timer, sizes, stop)
    measured = _rounds(timer, [(size, 1) for size in promising], stop)
    seconds = {size: min(took, measured.get((size, 1), took)) for size, took in promising.items()}
    batch = best_batch(seconds)
    at_once = [(size, max_parallel) for size in sorted({1, batch})] if max_parallel > 1 else []
    paces = {(batch, 1): seconds[batch] / batch}
    for (size, parallel), took in _rounds(timer, at_once, stop).items():
        paces[size, parallel] = took / (size * parallel)
    case = _first_without_a_better(paces)
    return Plan(*case, curve=fit_curve(seconds), alone_s=seconds[sizes[0]], pace_s=paces[case])


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
    return _first_without_a_better({size: measured[size] / size for size in sorted(measured)})


def _first_without_a_better(paces: Mapping[Key, float]) -> Key:
    """The first that no later one beats by more than GAIN."""
    best = next(iter(paces))
    for key, pace_s in paces.items():
        if pace_s < GAIN * paces[best]:
            best = key
    return best


def time_batches(run: Callable[[int], object], size: int, parallel: int) -> float:
    """Seconds of a batch of `size` items where `parallel` are always being computed; `run` computes one.

    Short ones follow each other for LONG_ENOUGH_S, as they do at work: how long threads take to begin and to
    end would else count for more in smaller batches.
    """

    def work() -> float:
        began, count = perf_counter(), 0
        while not count or perf_counter() < began + LONG_ENOUGH_S:
            run(size)
            count += 1
        return count / (perf_counter() - began)

    with ThreadPoolExecutor(parallel) as pool:
        all_there = Barrier(parallel)
        for there in [pool.submit(all_there.wait) for _ in range(parallel)]:
            there.result()  # starting threads is not to be measured
        rates = [pool.submit(work) for _ in range(parallel)]
        return parallel / sum(rate.result() for rate in rates)
