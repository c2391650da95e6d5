"""Batches are as large as measured, not as hoped."""

import threading
from collections.abc import Callable

import pytest

from service.tuning import best_batch, fit_line, make_plan, time_batches


class Device:
    """Takes `fixed + each * items` seconds for a batch, and batches at once as `together` says."""

    def __init__(self, fixed: float, each: float, together: float = 2.0, memory: int = 1000) -> None:
        self.fixed, self.each, self.together, self.memory = fixed, each, together, memory
        self.asked: list[tuple[int, int]] = []

    def __call__(self, size: int, parallel: int) -> float:
        self.asked.append((size, parallel))
        if size * parallel > self.memory:
            raise RuntimeError("no memory for it")
        return (self.fixed + self.each * size) * (self.together if parallel == 2 else 1)


def test_the_smallest_batch_that_no_larger_one_beats_clearly() -> None:
    assert best_batch({1: 10, 2: 19.5, 4: 39, 8: 78}) == 1
    assert best_batch({1: 10, 2: 12, 4: 16, 8: 24}) == 8
    assert best_batch({1: 10, 2: 12, 4: 23.9, 8: 60}) == 2
    assert best_batch({3: 10}) == 3


def test_line_through_times() -> None:
    assert fit_line([1, 2, 4], [5.0, 7.0, 11.0]) == pytest.approx((2, 3))
    assert fit_line([2], [5.0]) == (2.5, 0.0)
    assert fit_line([1, 2, 4], [1.0, 3.0, 7.0])[1] == 0
    slope, fixed = fit_line([1, 2], [5.0, 4.0])
    assert (slope, fixed) == (0.0, pytest.approx(6))


def test_a_device_with_fixed_costs_gets_its_largest_batch() -> None:
    device = Device(fixed=3, each=2)
    plan = make_plan(device, max_batch=6, max_parallel=1, budget_s=60)
    assert (plan.batch, plan.parallel) == (6, 1)
    assert set(device.asked) == {(1, 1), (2, 1), (4, 1), (6, 1)}
    assert (plan.seconds_per_item, plan.seconds_fixed) == pytest.approx((2, 3))
    assert plan.seconds(6) == pytest.approx(15)
    assert plan.pace_s == pytest.approx(2.5)


def test_sizes_that_gain_nothing_are_not_tried_further() -> None:
    device = Device(fixed=0, each=2)
    assert make_plan(device, 64, 1, 60).batch == 1
    assert max(device.asked) == (4, 1)


def test_two_at_once_only_where_they_gain() -> None:
    assert make_plan(Device(0, 1, together=1.97), 2, 2, 60).parallel == 1
    assert make_plan(Device(0, 1, together=1.6), 2, 2, 60).parallel == 2


def test_without_time_a_single_picture_is_measured() -> None:
    device = Device(1, 1)
    plan = make_plan(device, 8, 2, 0)
    assert device.asked == [(1, 1)]
    assert (plan.batch, plan.parallel, plan.seconds(1)) == (1, 1, 2)


def test_a_slow_model_is_measured_once_and_any_for_not_much_longer_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def timed(device: Device) -> Callable[[int, int], float]:
        def run(size: int, parallel: int) -> float:
            nonlocal now
            now += (seconds := device(size, parallel))
            return seconds

        return run

    monkeypatch.setattr("service.tuning.perf_counter", lambda: now)
    slow = Device(fixed=1, each=8)
    assert make_plan(timed(slow), 8, 2, 2).seconds(1) == 9
    assert slow.asked == [(1, 1)]
    for each in (1.9, 0.9, 0.6, 0.3, 0.1, 0.01):
        now = 0.0
        make_plan(timed(Device(fixed=each / 2, each=each)), 8, 2, 2)
        assert now <= 3 * 2


def test_a_batch_that_does_not_fit_is_left_out() -> None:
    assert make_plan(Device(3, 1, memory=3), 8, 1, 60).batch == 2
    assert make_plan(Device(3, 1, together=1, memory=3), 8, 2, 60).parallel == 1
    with pytest.raises(RuntimeError, match="no memory"):
        make_plan(Device(3, 1, memory=0), 8, 1, 60)


def test_batches_at_once_are_computed_at_once() -> None:
    barrier = threading.Barrier(2)
    sizes: list[int] = []

    def run(size: int) -> None:
        barrier.wait(10)
        sizes.append(size)

    assert time_batches(run, 3, 2) > 0
    assert sizes == [3, 3]
