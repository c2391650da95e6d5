"""Batches are as large as measured, not as hoped."""

import threading
from collections.abc import Callable
from time import sleep

import pytest

from service.tuning import best_batch, fit_line, make_plan


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
    sizes: list[int] = []

    def run(size: int) -> None:
        sizes.append(size)
        sleep(0.01)

    plan = make_plan(run, max_batch=6, max_parallel=1, budget_s=60)
    assert (plan.batch, plan.parallel) == (6, 1)
    assert set(sizes) == {1, 2, 4, 6}
    assert plan.seconds(6) == pytest.approx(plan.seconds_fixed + 6 * plan.seconds_per_item)
    assert plan.pace_s == plan.seconds(6) / 6


def test_two_at_once_only_where_they_gain() -> None:
    device = threading.Lock()

    def alone(size: int) -> None:
        with device:
            sleep(0.01 * size)

    assert make_plan(alone, 2, 2, 60).parallel == 1
    assert make_plan(lambda size: sleep(0.01 * size), 2, 2, 60).parallel == 2


def test_without_time_a_single_picture_is_measured() -> None:
    sizes: list[int] = []
    plan = make_plan(sizes.append, 8, 2, 0)
    assert sizes == [1, 1]
    assert (plan.batch, plan.parallel) == (1, 1)


def fails_above(limit: int) -> Callable[[int], None]:
    def run(size: int) -> None:
        if size > limit:
            raise RuntimeError("no memory for it")

    return run


def test_a_batch_that_does_not_fit_is_left_out() -> None:
    assert make_plan(fails_above(2), 8, 1, 60).batch <= 2
    with pytest.raises(RuntimeError, match="no memory"):
        make_plan(fails_above(0), 8, 1, 60)
