"""The rule: what is quick is computed in batches, on one thread for each of several at once."""

import pytest
from pydantic import ValidationError

from service.tuning.plan import SLOW_S, Plan, described, plan_for_cpu, plan_for_gpu

QUICK_S, LONG_S = SLOW_S / 10, SLOW_S * 10


@pytest.mark.parametrize(
    ("cores", "alone", "at_once"), [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (64, 4, 64)]
)
def test_each_core_gets_a_batch_of_what_is_quick_and_one_alone_a_few(
    cores: int, alone: int, at_once: int
) -> None:
    plan = plan_for_cpu(QUICK_S, cores, threads=0, max_batch=8)
    assert (plan.batch, plan.parallel, plan.threads, plan.threads_at_once) == (4, at_once, alone, 1)
    assert plan.thread_counts == ((1,) if cores == 1 else (alone, 1))


def test_what_is_slow_is_computed_one_by_one_on_all_cores() -> None:
    plan = plan_for_cpu(LONG_S, 64, threads=0, max_batch=8)
    assert (plan.batch, plan.parallel, plan.thread_counts) == (1, 64, (64, 1))


@pytest.mark.parametrize(
    ("item_s", "threads", "parallel"),
    [(QUICK_S, 1, 4), (QUICK_S, 2, 2), (QUICK_S, 4, 2), (QUICK_S, 9, 2), (LONG_S, 4, 1), (LONG_S, 1, 4)],
)
def test_with_one_number_of_threads_there_is_one_engine_and_no_core_is_left_idle(
    item_s: float, threads: int, parallel: int
) -> None:
    plan = plan_for_cpu(item_s, 4, threads=threads, max_batch=8)
    assert (plan.thread_counts, plan.parallel) == ((threads,), parallel)


def test_no_batch_is_larger_than_allowed_and_a_gpu_gets_the_largest() -> None:
    assert plan_for_cpu(QUICK_S, 2, threads=0, max_batch=3).batch == 3
    plan = plan_for_gpu(16, threads=1)
    assert (plan.batch, plan.parallel, plan.thread_counts) == (16, 2, (1,))


def test_what_is_told_of_a_plan() -> None:
    plan = Plan(batch=4, parallel=2, threads=2, alone_s=0.01234567, pace_s=0.005, batch_s=1)
    assert described(plan) == {
        "source": "rule",
        "batch": 4,
        "parallel": 2,
        "threads": 2,
        "threads_shared": 2,
        "ms_alone": 12.346,
        "ms_per_picture": 5.0,
    }


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"parallel": 10**9}, {"threads": -1}, {"alone_s": -1}, {"pace_s": float("nan")}]
)
def test_no_plan_has_numbers_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Plan.model_validate({"batch": 1, "parallel": 1, **wrong})
