"""The number of threads is measured, too: fewer where they are no slower and gain together."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from export.contract.bundle import Bundle
from service import tuned
from service.backends.onnx import usable_cores
from service.curve import Curve
from service.engine import Engine
from service.tuned import thread_counts, tune
from service.tuning import Plan, Timer
from tests.service.conftest import settings_for

COUNTS = [4, 2, 1]
SETTINGS = settings_for("-", tune_s=30, max_batch=2)


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
        monkeypatch.setattr(tuned, "timer_of", self.timer_of)
        monkeypatch.setattr(tuned, "usable_cores", lambda: 2)

    def open(self, threads: int) -> FakeEngine:
        self.opened.append(FakeEngine(threads, self.device))
        return self.opened[-1]

    def timer_of(self, engine: FakeEngine, _: int) -> Timer:
        seconds = {1: self.alone[engine.threads], 2: self.both[engine.threads]}
        return lambda size, parallel: size * seconds[parallel]


def test_fewer_threads_that_are_as_fast_alone_and_gain_together_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.01, 1: 2}, both={4: 2, 2: 1.1, 1: 2})
    engine, plan = tune(machine.open, COUNTS, SETTINGS, None)
    assert (engine.threads, plan.threads, plan.parallel) == (2, 2, 2)
    assert (plan.alone_s, plan.pace_s) == pytest.approx((1.01, 0.55))
    assert [one.threads for one in machine.opened] == [4, 2, 1]


def test_a_single_picture_goes_before_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, alone={4: 1, 2: 1.03, 1: 1}, both={4: 2, 2: 1.5, 1: 1})
    engine, plan = tune(machine.open, COUNTS, SETTINGS, None)
    assert (engine.threads, plan.threads, plan.parallel) == (4, 4, 1)
    assert [one.threads for one in machine.opened] == [4, 2]  # still fewer are slower still


def test_nothing_is_searched_on_a_gpu_or_without_time_or_where_a_plan_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, dict.fromkeys(COUNTS, 1.0), dict.fromkeys(COUNTS, 1.0))
    machine.device = "cuda"
    assert tune(machine.open, COUNTS, SETTINGS, None)[1].threads == 4
    machine.device = "cpu"
    hasty = settings_for("-", tune_s=0, max_batch=5)
    engine, plan = tune(machine.open, COUNTS, hasty, None)
    assert (plan.threads, plan.batch, plan.parallel, engine.warmed) == (4, 5, 1, [5])
    known = Plan(2, 1, Curve(1, 0), 1, 1, threads=2)
    engine, plan = tune(machine.open, COUNTS, SETTINGS, known)
    assert plan is known
    assert (engine.threads, engine.warmed) == (2, [2])
    assert [one.threads for one in machine.opened] == [4, 4, 2]


def test_an_engine_that_takes_long_to_open_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, dict.fromkeys(COUNTS, 1.0), dict.fromkeys(COUNTS, 1.0))

    def slowly(threads: int) -> FakeEngine:
        time.sleep(0.05)
        return machine.open(threads)

    tune(slowly, COUNTS, settings_for("-", tune_s=0.01), None)
    assert [one.threads for one in machine.opened] == [4]


def test_the_counts_are_halved_from_all_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned, "usable_cores", lambda: 12)
    assert thread_counts(0) == [12, 6, 3, 1]
    assert thread_counts(5) == [5]


def test_a_real_engine_is_warm_and_every_graph_has_a_curve(bundle_folder: Path) -> None:
    bundle = Bundle.read(bundle_folder)
    settings = settings_for(bundle_folder, tune_s=0.2, max_batch=4)
    engine, plan = tune(lambda threads: Engine(bundle, device="cpu", threads=threads), [1], settings, None)
    assert plan.threads == 1
    assert plan.parallel in (1, max(2, usable_cores()))
    assert plan.batch_s >= plan.alone_s / 2 > 0
    assert set(engine.curves) == set(bundle.manifest.graphs)
    assert all(curve.seconds(1) > 0 for curve in engine.curves.values())
