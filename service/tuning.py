"""How large batches should be, and how many at once: measured, since often neither gains anything."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Barrier
from time import perf_counter, process_time
from typing import NamedTuple, TypeVar

from service.curve import Curve, fit_curve
from service.process import usable_cores

GAIN = 0.95  # a second batch at once, or fewer threads, must cost at most this much of the other per item
BATCH_GAIN = 0.98  # and so must a larger batch
COLD_S = 0.004  # that a batch takes longer at work, where its thread has done other things before
PATIENCE = 1.02  # fewer threads may let a single item take so many times as long
ALONE_GAIN = 0.9  # less of it, by fewer threads, may be a neighbour's doing, who slows down several
AT_ONCE_PATIENCE = 1.15  # and several batches at once; more would be no neighbour's doing
ROUNDS = 3
LONG_ENOUGH_S = 0.05

Key = TypeVar("Key", bound=tuple[int, ...])
Named = TypeVar("Named", bound=Hashable)


class Took(NamedTuple):
    """Seconds by the clock, and of all cores together: processor time over their number."""

    clock_s: float
    cores_s: float

    @property
    def cost_s(self) -> float:
        """What is compared: at work the cores also decode and encode, with what computing leaves of them."""
        return (self.clock_s + self.cores_s) / 2 + COLD_S


NEVER = Took(math.inf, math.inf)

Timer = Callable[[int, int], Took]
"""Gives what so many items take, in each of so many batches at once."""

Case = tuple[int, int]
"""How many items a batch has, and how many batches are computed at once."""

ALONE: Case = (1, 1)


@dataclass(frozen=True)
class Plan:
    """The largest useful batch, how many at once, on how many threads a batch that computes alone.

    threads_shared: of each of several at once, 0 where that is the same. curve: of one batch alone. alone_s:
    seconds of a single item. pace_s: seconds per item at work. cost_s: the same as `Took` has it.
    """

    batch: int
    parallel: int
    curve: Curve
    alone_s: float
    pace_s: float
    cost_s: float
    threads: int = 1
    threads_shared: int = 0

    @property
    def at_work(self) -> Case:
        """The batches when there is much to do."""
        return self.batch, self.parallel

    @property
    def batch_s(self) -> float:
        """Seconds of a full batch."""
        return self.curve.seconds(self.batch)

    def is_better(self, other: "Plan") -> bool:
        """Whether it gains against the other, and lets a single item hardly wait longer."""
        return self.alone_s <= PATIENCE * other.alone_s and self.cost_s < GAIN * other.cost_s

    def gains_alone(self, other: "Plan") -> bool:
        """Whether a single item is clearly faster."""
        return self.alone_s < ALONE_GAIN * other.alone_s

    def is_as_good_at_once(self, other: "Plan") -> bool:
        """Whether several batches at once are hardly slower than at work with the other."""
        return self.parallel > 1 and self.cost_s < AT_ONCE_PATIENCE * other.cost_s

    def timed(self, alone: Took, at_work: Took) -> "Plan":
        """The same with what a single item takes, and what the batches at work take, as measured anew."""
        items = math.prod(self.at_work)
        pace_s, cost_s = at_work.clock_s / items, at_work.cost_s / items
        return replace(self, alone_s=alone.clock_s, pace_s=pace_s, cost_s=cost_s)

    def shared_by(self, other: "Plan") -> "Plan":
        """A single batch as here, several at once as in the other plan."""
        at_once = {name: getattr(other, name) for name in ("batch", "parallel", "pace_s", "cost_s")}
        return replace(self, **at_once, threads_shared=other.threads)


def make_plan(
    timer: Timer, max_batch: int, max_parallel: int, budget_s: float, at_once_gain: float = GAIN
) -> Plan:
    """Time batches of 1, 2, 4, ... up to `max_batch`, then `max_parallel` at once, up to twice the best.

    budget_s: about how long it may take, and as long before for the first of each size, which is slow where
    the system has to find memory. at_once_gain: an item of several batches at once must cost at most so many
    times as much as of one. Raises: what computing a single item raises.
    """
    stop = perf_counter() + budget_s
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    took = _first_round(timer, sizes, stop)
    if perf_counter() < stop:
        stop = perf_counter() + budget_s
    took = _rounds(timer, took, stop)
    batch = _best_batch(took)
    cases = {(batch, 1): took[batch, 1]}
    if max_parallel > 1:
        at_once = [(size, max_parallel) for size, _ in took if size <= 2 * batch]
        if known := _rounds(timer, dict.fromkeys(at_once, NEVER), stop):
            best = _best_batch(known), max_parallel
            cases[best] = known[best]
    costs = {case: one.cost_s / math.prod(case) for case, one in cases.items()}
    case = _first_without_a_better(costs, at_once_gain)
    return Plan(
        *case,
        curve=fit_curve({size: one.clock_s for (size, _), one in took.items()}),
        alone_s=took[ALONE].clock_s,
        pace_s=cases[case].clock_s / math.prod(case),
        cost_s=costs[case],
    )


def rematch(rivals: Sequence[tuple[Plan, Timer]], stop: float) -> list[Plan]:
    """The plans timed anew, in turn, so that what else the machine does meets all; the same without time."""

    def timer(number: int, size: int, parallel: int) -> Took:
        return rivals[number][1](size, parallel)

    plans = [plan for plan, _ in rivals]
    alone = [(number, *ALONE) for number, _ in enumerate(plans)]
    at_work = [(number, *plan.at_work) for number, plan in enumerate(plans)]
    took = _rounds(timer, dict.fromkeys(alone + at_work, NEVER), stop)
    if not took.keys() >= {*alone, *at_work}:
        return plans
    return [
        plan.timed(took[first], took[second])
        for plan, first, second in zip(plans, alone, at_work, strict=True)
    ]


def _first_round(timer: Timer, sizes: Sequence[int], stop: float) -> dict[Case, Took]:
    """What ever larger batches take, until two of them gain nothing or one does not fit into memory.

    Larger ones would only make the runtime keep more memory.
    """
    took = {ALONE: timer(*ALONE)}
    misses = 0
    for size in sizes[1:]:
        best = min(one.cost_s / items for (items, _), one in took.items())
        if misses == 2 or perf_counter() > stop:
            break
        try:
            took[size, 1] = timer(size, 1)
        except Exception:  # whatever the runtime raises, this size is not one to choose
            break
        misses = 0 if took[size, 1].cost_s / size < BATCH_GAIN * best else misses + 1
    return took


def _rounds(timer: Callable[..., Took], known: Mapping[Key, Took], stop: float) -> dict[Key, Took]:
    """What each case takes: the least of what is known and some rounds, in which the cases follow each other.

    What else the machine does only ever makes a round longer. After `stop` nothing is measured any more, nor
    after a case that cannot be computed; cases that never were are left out.
    """
    least = dict(known)
    with suppress(Exception):  # two at once may not fit where one does
        for case in list(known) * ROUNDS:
            if perf_counter() > stop:
                break
            least[case] = min(least[case], timer(*case), key=lambda took: took.cost_s)
    return {case: took for case, took in least.items() if took != NEVER}


def _best_batch(took: Mapping[Case, Took]) -> int:
    return best_batch({size: one.cost_s for (size, _), one in took.items()})


def best_batch(measured: dict[int, float]) -> int:
    """The smallest batch that no larger one beats by more than BATCH_GAIN, in what an item costs."""
    return _first_without_a_better({size: measured[size] / size for size in sorted(measured)}, BATCH_GAIN)


def _first_without_a_better(costs: Mapping[Named, float], gain: float) -> Named:
    """The first that no later one beats by more than `gain`."""
    best = next(iter(costs))
    for name, cost_s in costs.items():
        if cost_s < gain * costs[best]:
            best = name
    return best


def time_batches(run: Callable[[int], object], size: int, parallel: int) -> Took:
    """What a batch of `size` items takes where `parallel` are always being computed; `run` computes one.

    Short ones follow each other for LONG_ENOUGH_S, as they do at work: how long threads take to begin and to
    end would else count for more in smaller batches.
    """

    def work() -> tuple[int, float]:
        began, count = perf_counter(), 0
        while not count or perf_counter() < began + LONG_ENOUGH_S:
            run(size)
            count += 1
        return count, perf_counter() - began

    with ThreadPoolExecutor(parallel) as pool:
        all_there = Barrier(parallel)
        for there in [pool.submit(all_there.wait) for _ in range(parallel)]:
            there.result()  # starting threads is not to be measured
        began_s = process_time()
        done = [batches.result() for batches in [pool.submit(work) for _ in range(parallel)]]
        cpu_s = process_time() - began_s
    clock_s = parallel / sum(count / seconds for count, seconds in done)
    return Took(clock_s, parallel * cpu_s / sum(count for count, _ in done) / usable_cores())
