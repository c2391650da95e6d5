"""The number of threads is measured, too: fewer where they are no slower and gain together."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from export.contract.bundle import Bundle
from service import tuned as module
from service.backends.base import GraphError
from service.curve import Curve
from service.engine import Engine
from service.tuned import timer_of, tune
from service.tuning import Plan, Timer, Took
from tests.service.conftest import settings_for

COUNTS = [4, 2, 1]
SETTINGS = settings_for("-", tune_s=30, threads=0, max_batch=1)


class FakeEngine:
    """Opened with some threads; remembers what it was warmed up with."""

    def __init__(self, threads: int, device: str = "cpu") -> None:
        self.threads = threads
        self.device = device
        self.warmed: list[int] = []

    def run(self, pictures: Sequence[int]) -> Sequence[object]:
        return pictures

    def samples(self, count: int) -> Sequence[int]:
        return range(count)

    def warm_up(self, batch: int = 1) -> None:
        self.warmed.append(batch)


class Machine:
    """Seconds of one item, and of two at once, by the number of threads."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, alone: dict[int, float], both: dict[int, float]
    ) -> None:
        self.alone, self.both = alone, both
        self.opened: list[FakeEngine] = []
        self.device = "cpu"
        monkeypatch.setattr(module, "timer_of", self.timer_of)
        monkeypatch.setattr(module, "usable_cores", lambda: 4)

    def open(self, threads: int) -> FakeEngine:
        self.opened.append(FakeEngine(threads, self.device))
        return self.opened[-1]

    def timer_of(self, engine: FakeEngine, _: int) -> Timer:
        def timer(size: int, parallel: int) -> Took:
            at_once_s = self.both[engine.threads] * parallel / 2
            seconds = size * (self.alone[engine.threads] if parallel == 1 else at_once_s)
            return Took(seconds, seconds)

        return timer


def test_fewer_threads_are_taken_where_one_picture_is_clearly_faster_and_many_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 0.89, 1: 2}, both={4: 2, 2: 1.1, 1: 4})
    tuned = tune(machine.open, SETTINGS, None, "pair")
    assert (tuned.engine.threads, tuned.shared) == (2, None)
    assert (tuned.plan.threads, tuned.plan.threads_shared, tuned.plan.parallel) == (2, 0, 2)
    assert (tuned.plan.alone_s, tuned.plan.pace_s) == pytest.approx((0.89, 0.55))
    assert [one.threads for one in machine.opened] == [4, 2, 1]


@pytest.mark.parametrize("alone_s", [1.2, 1, 0.91])
def test_both_are_kept_where_only_many_pictures_are_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, alone_s: float
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: alone_s, 1: 1}, both={4: 1.9, 2: 1.3, 1: 1.9})
    tuned = tune(machine.open, SETTINGS, None, "pair")
    assert tuned.shared is not None
    assert (tuned.engine.threads, tuned.shared.threads) == (4, 2)
    assert (tuned.plan.threads, tuned.plan.threads_shared) == (4, 2)
    assert (tuned.plan.alone_s, tuned.plan.pace_s) == pytest.approx((1, 0.65))
    assert [one.threads for one in machine.opened] == [4, 2, 1]
    # Before it is measured, to give back what that took, and for the batches of the plan.
    assert [one.warmed for one in machine.opened] == [[1, 1, tuned.plan.batch]] * 2 + [[1]]
    again = tune(machine.open, SETTINGS, tuned.plan, "pair")
    assert again.shared is not None
    assert (again.engine.threads, again.shared.threads) == (4, 2)
    larger = tune(machine.open, SETTINGS, tuned.plan, "one")
    assert (larger.engine.threads, larger.shared, larger.plan.threads_shared) == (4, None, 0)


def test_fewer_threads_than_cores_compute_several_at_once_even_where_that_is_hardly_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.2, 1: 9}, both={4: 1.9, 2: 2.1, 1: 9})
    tuned = tune(machine.open, SETTINGS, None, "pair")
    assert (tuned.plan.threads, tuned.plan.threads_shared, tuned.plan.parallel) == (4, 2, 2)


def test_those_for_several_at_once_are_halved_as_long_as_they_are_as_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.2, 1: 2}, both={4: 1.9, 2: 1.3, 1: 1.2})
    tuned = tune(machine.open, SETTINGS, None, "pair")
    assert tuned.shared is not None
    assert (tuned.engine.threads, tuned.shared.threads) == (4, 1)
    assert (tuned.plan.alone_s, tuned.plan.pace_s) == pytest.approx((1, 0.6))


@pytest.mark.parametrize("search", ["none", "one"])
def test_no_pair_where_weights_are_not_to_be_held_twice(
    monkeypatch: pytest.MonkeyPatch, search: Literal["none", "one"]
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.2, 1: 1}, both={4: 1.9, 2: 1.3, 1: 1})
    tuned = tune(machine.open, SETTINGS, None, search)
    assert (tuned.engine.threads, tuned.shared, tuned.plan.threads_shared) == (4, None, 0)
    assert len(machine.opened) == {"none": 1, "one": 2}[search]


@pytest.mark.parametrize(("fewer_s", "has_pair"), [(1.83, True), (1.85, False)])
def test_a_pair_where_several_at_once_are_hardly_slower(
    monkeypatch: pytest.MonkeyPatch, fewer_s: float, has_pair: bool
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.5, 1: 1}, both={4: 1.6, 2: fewer_s, 1: 9})
    tuned = tune(machine.open, SETTINGS, None, "pair")
    assert (tuned.engine.threads, tuned.plan.parallel, tuned.shared is not None) == (4, 2, has_pair)


def test_nothing_is_searched_on_a_gpu_or_without_time_or_where_a_number_or_a_plan_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, dict.fromkeys(COUNTS, 1.0), dict.fromkeys(COUNTS, 1.0))
    machine.device = "cuda"
    assert tune(machine.open, SETTINGS, None, "pair").plan.threads == 4
    machine.device = "cpu"
    assert tune(machine.open, settings_for("-", tune_s=30, threads=2), None, "pair").plan.threads == 2
    hasty = tune(machine.open, settings_for("-", tune_s=0, threads=0, max_batch=5), None, "pair")
    assert (hasty.plan.threads, hasty.plan.batch, hasty.plan.parallel, hasty.engine.warmed) == (
        4,
        5,
        1,
        [1, 5],
    )
    known = Plan(2, 1, Curve(1, 0), 1, 1, 1, threads=1)
    tuned = tune(machine.open, SETTINGS, known, "pair")
    assert tuned.plan is known
    assert (tuned.engine.threads, tuned.engine.warmed, tuned.shared) == (1, [2], None)
    assert [one.threads for one in machine.opened] == [4, 2, 4, 1]


def test_an_engine_that_takes_long_to_open_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, dict.fromkeys(COUNTS, 1.0), dict.fromkeys(COUNTS, 1.0))

    def slowly(threads: int) -> FakeEngine:
        time.sleep(0.05)
        return machine.open(threads)

    tune(slowly, settings_for("-", tune_s=0.01, threads=0), None, "pair")
    assert [one.threads for one in machine.opened] == [4]


def test_a_real_engine_is_measured(bundle_folder: Path) -> None:
    bundle = Bundle.read(bundle_folder)
    settings = settings_for(bundle_folder, tune_s=0.2, max_batch=4)

    def opened(threads: int) -> Engine:
        return Engine(bundle, device="cpu", threads=threads)

    tuned = tune(opened, settings, None, "pair")
    assert (tuned.plan.threads, tuned.shared) == (1, None)
    assert tuned.plan.batch_s >= tuned.plan.alone_s / 2 > 0


class FirstTimeSlowEngine(FakeEngine):
    """Takes a batch as fast as a single item, but what it meets the first time long."""

    def __init__(self) -> None:
        super().__init__(1, "cuda")
        self.met = {1}

    def run(self, pictures: Sequence[int]) -> Sequence[object]:
        time.sleep(0.001 if len(pictures) in self.met else 0.1)
        self.met.add(len(pictures))
        return pictures


def test_a_gpu_has_met_every_size_of_a_batch_before_it_is_timed_and_before_it_serves() -> None:
    settings = settings_for("-", tune_s=30, threads=1, max_batch=16)
    tuned = tune(lambda _: FirstTimeSlowEngine(), settings, None, "none")
    assert tuned.plan.batch == 16
    assert tuned.engine.warmed == [1, *range(1, 17)]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_of_several_at_once_on_the_cores_only_what_they_spend_counts(device: str) -> None:
    """Another process's work, which a sleep stands for here, makes the clock go on meanwhile."""

    class Disturbed(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            time.sleep(0.02)
            return pictures

    timer = timer_of(Disturbed(1, device), 1)
    assert timer(1, 1).clock_s > 0.01
    assert (timer(1, 2).clock_s > 0.01) == (device == "cuda")


def test_with_a_plan_that_is_known_a_batch_is_computed_too() -> None:
    """Another bundle may fail, or take longer than the one before did, before it counts as hung."""

    class Slow(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            time.sleep(0.02)
            return [GraphError("not finite")] if self.threads == 1 else pictures

    known = Plan(2, 1, Curve(0.001, 0), alone_s=0.001, pace_s=0.001, cost_s=0.001, threads=2)
    tuned = tune(Slow, SETTINGS, known, "pair")
    assert tuned.plan.batch_s > 0.01
    assert (tuned.plan.alone_s, tuned.plan.at_work) == (0.001, (2, 1))
    with pytest.raises(GraphError, match="not finite"):
        tune(Slow, SETTINGS, replace(known, threads=1), "pair")
