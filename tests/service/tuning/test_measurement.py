"""Another plan than the rule's must gain clearly, and twice."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from service.tuning import measurement as module
from service.tuning import search as opening
from service.tuning.measurement import best, item_s, measure, shares
from service.tuning.plan import Plan
from service.tuning.timing import Case
from tests.service.conftest import settings_for

USUAL, OTHER, THIRD = Case(1, 4, 2), Case(1, 8, 2), Case(2, 8, 1)


def costs(seconds: dict[Case, list[float]]) -> Callable[[Case], float]:
    """Gives one after the other, the last for ever."""
    return lambda case: seconds[case].pop(0) if len(seconds[case]) > 1 else seconds[case][0]


def test_shares_are_medians_of_rounds_in_turn() -> None:
    asked: list[Case] = []

    def seconds(case: Case) -> float:
        asked.append(case)
        return {USUAL: 1.0, OTHER: 0.9}[case] * (1 + len(asked) // 2)  # the machine gets ever slower

    assert shares(USUAL, [OTHER], seconds, 0)[OTHER] < 1.6
    assert asked == [USUAL, OTHER] * 3


def test_one_round_that_was_disturbed_decides_nothing() -> None:
    disturbed = costs({USUAL: [1, 9, 1], OTHER: [1.2]})
    assert shares(USUAL, [OTHER], disturbed, 0) == {USUAL: 1, OTHER: pytest.approx(1.2)}


@pytest.mark.parametrize(
    ("other_s", "expected"),
    [([0.94], OTHER), ([0.96], USUAL), ([1.1], USUAL), ([0.5, 0.5, 0.5, 1.0], USUAL)],
    ids=["clearly less", "hardly less", "more", "less at first only"],
)
def test_the_usual_case_stays_unless_another_gains_clearly_twice(
    other_s: list[float], expected: Case
) -> None:
    assert best(USUAL, [OTHER], costs({USUAL: [1.0], OTHER: other_s}), 0.95, 0) == expected


def test_what_cannot_be_computed_is_left_out_but_the_usual_must_be() -> None:
    def seconds(case: Case) -> float:
        if case == failing:
            raise RuntimeError("no memory")
        return 1.0 if case == USUAL else 0.8

    failing = OTHER
    assert best(USUAL, [OTHER, THIRD], seconds, 0.95, 0) == THIRD
    failing = USUAL
    with pytest.raises(RuntimeError, match="no memory"):
        best(USUAL, [OTHER], seconds, 0.95, 0)


def test_it_is_measured_as_long_as_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rounds = 0.0, 0

    def seconds(case: Case) -> float:
        nonlocal now, rounds
        now += 0.5
        rounds += case == USUAL
        return 1.0

    monkeypatch.setattr(module, "perf_counter", lambda: now)
    shares(USUAL, [OTHER], seconds, 10)
    assert rounds == 10


class FakeEngine:
    """Every batch takes `fixed` and each item `each` seconds of a thread, of which so many share an item."""

    def __init__(self, threads: int, device: str = "cpu") -> None:
        self.threads, self.device = threads, device
        self.computed = list[int]()
        self.running = list[threading.Thread]()

    def run(self, pictures: Sequence[int]) -> Sequence[object]:
        self.computed.append(len(pictures))
        self.running.append(threading.current_thread())
        time.sleep(0.01)
        return pictures

    def samples(self, count: int) -> Sequence[int]:
        return range(count)

    def warm_up(self, batch: int = 1) -> None:
        """It is warm."""


def test_batches_follow_each_other_at_once_for_long_enough() -> None:
    engine = FakeEngine(1)
    took_s = item_s(engine, Case(1, 5, 2), by_clock=True)
    assert set(engine.computed) == {5}
    assert len(set(engine.running)) == 2
    assert 0 < took_s < 0.01
    assert len(engine.computed) > 4


def test_waiting_costs_nothing_of_the_cores() -> None:
    engine = FakeEngine(1)
    assert item_s(engine, Case(1, 1, 1), by_clock=False) < item_s(engine, Case(1, 1, 1), by_clock=True)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[bool, Case], float]:
    """Seconds of an item, by whether the clock counts and case; 1 for others. There are four cores."""
    known: dict[tuple[bool, Case], float] = {}

    def fake(_: FakeEngine, case: Case, *, by_clock: bool) -> float:
        return known.get((by_clock, case), 1.0)

    monkeypatch.setattr(module, "item_s", fake)
    for one in (module, opening):
        monkeypatch.setattr(one, "usable_cores", lambda: 4)
    return known


SETTINGS = settings_for("-", threads=0, tune_s=0)


def numbers(plan: Plan) -> tuple[int, ...]:
    return (plan.batch, plan.parallel, *plan.thread_counts)


def test_where_nothing_gains_the_plan_is_that_of_the_rule(times: dict[tuple[bool, Case], float]) -> None:
    plan = measure(FakeEngine, SETTINGS)
    assert numbers(plan) == (4, 4, 4, 1)
    assert (plan.source, plan.alone_s > 0, plan.batch_s > 0) == ("stored", True, True)
    assert not times


def test_threads_alone_threads_at_once_and_batches_are_chosen_by_what_they_take(
    times: dict[tuple[bool, Case], float],
) -> None:
    times[True, Case(2, 1, 1)] = 0.8
    times[False, Case(4, 8, 2)] = 0.7
    times[False, Case(2, 2, 2)] = 0.9
    assert numbers(measure(FakeEngine, SETTINGS)) == (8, 2, 2, 4)
    times[False, Case(2, 2, 2)] = 0.6
    assert numbers(measure(FakeEngine, SETTINGS)) == (2, 2, 2)  # one engine is enough


def test_no_batch_larger_than_allowed_is_tried(times: dict[tuple[bool, Case], float]) -> None:
    times[False, Case(1, 8, 4)] = 0.1
    assert measure(FakeEngine, settings_for("-", threads=0, tune_s=0, max_batch=7)).batch == 4


def test_with_one_engine_only_batches_are_measured(times: dict[tuple[bool, Case], float]) -> None:
    opened: list[int] = []

    def open_engine(threads: int) -> FakeEngine:
        opened.append(threads)
        return FakeEngine(threads)

    times[False, Case(4, 8, 2)] = 0.7
    assert numbers(measure(open_engine, SETTINGS, is_single=True)) == (8, 2, 4)
    assert set(opened) == {4}


def test_on_a_gpu_the_clock_counts(times: dict[tuple[bool, Case], float]) -> None:
    times[True, Case(1, 2, 2)] = 0.7
    assert measure(lambda threads: FakeEngine(threads, "cuda"), SETTINGS).batch == 2
