"""Batches are as large as measured, not as hoped."""

import threading
from collections.abc import Callable
from time import perf_counter

import pytest

from service.curve import Curve
from service.tuning import LONG_ENOUGH_S, Plan, Took, best_batch, make_plan, rematch, time_batches


def both(seconds: float) -> Took:
    """By the clock as of the cores."""
    return Took(seconds, seconds)


class Device:
    """Takes `fixed + each * items` seconds for a batch, and batches at once as `together` says."""

    def __init__(self, fixed: float, each: float, together: float = 2.0, memory: int = 1000) -> None:
        self.fixed, self.each, self.together, self.memory = fixed, each, together, memory
        self.asked: list[tuple[int, int]] = []

    def __call__(self, size: int, parallel: int) -> Took:
        self.asked.append((size, parallel))
        if size * parallel > self.memory:
            raise RuntimeError("no memory for it")
        return both((self.fixed + self.each * size) * (self.together if parallel == 2 else 1))


def test_the_smallest_batch_that_no_larger_one_beats_clearly() -> None:
    assert best_batch({1: 10, 2: 19.8, 4: 39.4, 8: 79}) == 1
    assert best_batch({1: 10, 2: 12, 4: 16, 8: 24}) == 8
    assert best_batch({1: 10, 2: 12, 4: 23.9, 8: 60}) == 2
    assert best_batch({3: 10}) == 3


def test_a_device_with_fixed_costs_gets_its_largest_batch() -> None:
    device = Device(fixed=3, each=2)
    plan = make_plan(device, max_batch=6, max_parallel=1, budget_s=60)
    assert (plan.batch, plan.parallel) == (6, 1)
    assert set(device.asked) == {(1, 1), (2, 1), (4, 1), (6, 1)}
    assert (plan.curve.each_s, plan.curve.fixed_s) == pytest.approx((2, 3))
    assert (plan.batch_s, plan.alone_s, plan.pace_s) == pytest.approx((15, 5, 2.5))


def test_sizes_that_gain_nothing_are_not_tried_further() -> None:
    device = Device(fixed=0, each=2)
    assert make_plan(device, 64, 1, 60).batch == 1
    assert max(device.asked) == (4, 1)


def test_two_at_once_only_where_they_gain() -> None:
    assert make_plan(Device(0, 1, together=1.97), 2, 2, 60).parallel == 1
    plan = make_plan(Device(0, 1, together=1.6), 2, 2, 60)
    assert (plan.parallel, plan.pace_s) == (2, pytest.approx(0.8))


def test_rivals_are_timed_in_turn() -> None:
    """The machine gets ever slower: whatever is measured later looks worse by itself."""
    asked: list[tuple[str, int, int]] = []

    def rival(name: str, seconds: float) -> Callable[[int, int], Took]:
        def timer(size: int, parallel: int) -> Took:
            asked.append((name, size, parallel))
            return both(size * seconds * (1 + len(asked) / 100))

        return timer

    slow, fast = rival("slow", 1.2), rival("fast", 1.0)
    plans = [make_plan(timer, 1, 2, 60) for timer in (slow, fast)]
    asked.clear()
    slower, faster = rematch(list(zip(plans, (slow, fast), strict=True)), perf_counter() + 60)
    assert asked[:4] == [("slow", 1, 1), ("fast", 1, 1), ("slow", 1, 2), ("fast", 1, 2)]
    assert faster.is_better(slower)
    assert (faster.alone_s, faster.pace_s) == pytest.approx((1.02, 1.04 / 2))
    assert rematch(list(zip(plans, (slow, fast), strict=True)), 0) == plans


def test_a_plan_is_better_when_it_gains_and_no_picture_waits_longer_for_it() -> None:
    def plan(alone_s: float, pace_s: float) -> Plan:
        return Plan(1, 1, Curve(alone_s, 0), alone_s, pace_s, pace_s)

    assert plan(1.01, 0.9).is_better(plan(1, 1))
    assert not plan(1.03, 0.5).is_better(plan(1, 1))
    assert not plan(0.9, 0.96).is_better(plan(1, 1))


def test_what_gains_at_once_is_searched_again() -> None:
    """Alone the largest batch gains; of several at once it is kept only where it gains, too."""

    def timer(size: int, parallel: int) -> Took:
        each_s = single_s if size == 1 else 1.0
        return both(size * (each_s if parallel == 2 else 0.6 + 0.4 / size))

    for single_s, batch in ((1.1, 2), (1.0, 1)):
        plan = make_plan(timer, 4, 2, 60)
        assert (plan.batch, plan.parallel) == (batch, 2)
        assert plan.pace_s == pytest.approx((single_s if batch == 1 else 1) / 2)


def test_without_time_a_single_picture_is_measured() -> None:
    device = Device(1, 1)
    plan = make_plan(device, 8, 2, 0)
    assert device.asked == [(1, 1)]
    assert (plan.batch, plan.parallel, plan.alone_s) == (1, 1, 2)


def test_a_slow_model_is_measured_once_and_any_for_not_much_longer_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def timed(device: Device) -> Callable[[int, int], Took]:
        def run(size: int, parallel: int) -> Took:
            nonlocal now
            took = device(size, parallel)
            now += took.clock_s
            return took

        return run

    monkeypatch.setattr("service.tuning.perf_counter", lambda: now)
    slow = Device(fixed=1, each=8)
    assert make_plan(timed(slow), 8, 2, 2).alone_s == 9
    assert slow.asked == [(1, 1)]
    for each in (1.9, 0.9, 0.6, 0.3, 0.1, 0.01):
        now = 0.0
        make_plan(timed(Device(fixed=each / 2, each=each)), 8, 2, 2)
        assert now <= 3 * 2


def test_what_the_first_of_each_size_takes_does_not_shorten_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    met: set[int] = set()
    device = Device(fixed=0.02, each=0.01, together=1.5)

    def timer(size: int, parallel: int) -> Took:
        nonlocal now
        took = device(size, parallel)
        if size not in met:
            met.add(size)
            took = both(took.clock_s + 0.4)
        now += took.clock_s
        return took

    monkeypatch.setattr("service.tuning.perf_counter", lambda: now)
    assert make_plan(timer, 8, 2, 2).pace_s == pytest.approx(0.1 * 1.5 / 16)


def test_a_batch_that_does_not_fit_is_left_out() -> None:
    assert make_plan(Device(3, 1, memory=3), 8, 1, 60).batch == 2
    plan = make_plan(Device(3, 1, together=1, memory=3), 8, 2, 60)
    assert (plan.batch, plan.parallel) == (1, 2)  # two of the best do not fit, two single items do
    assert make_plan(Device(3, 1, together=1, memory=1), 8, 2, 60).parallel == 1
    with pytest.raises(RuntimeError, match="no memory"):
        make_plan(Device(3, 1, memory=0), 8, 1, 60)


def test_of_what_takes_as_long_the_one_that_leaves_more_of_the_cores_is_taken() -> None:
    def timer(size: int, parallel: int) -> Took:
        return Took(size, size * (0.5 if size == 1 else 0.3))

    assert make_plan(timer, 2, 1, 60).batch == 2


def test_batches_at_once_are_computed_at_once_and_again_until_it_is_long_enough() -> None:
    barrier = threading.Barrier(2)
    sizes: list[int] = []
    known: set[int] = set()

    def run(size: int) -> None:
        if threading.get_ident() not in known:
            known.add(threading.get_ident())
            barrier.wait(10)
        sizes.append(size)

    took = time_batches(run, 3, 2)
    assert 0 < took.clock_s < LONG_ENOUGH_S
    assert 0 < took.cores_s < 2 * took.clock_s
    assert len(sizes) > 2
    assert set(sizes) == {3}
