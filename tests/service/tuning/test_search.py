"""The engines of a plan are opened, warm and timed before they serve."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from export.contract.bundle import Bundle
from service.inference.anomalymoe import Engine
from service.inference.backends.base import GraphError
from service.tuning import search as module
from service.tuning.plan import SLOW_S, Plan
from service.tuning.search import open_tuned
from tests.service.conftest import settings_for

pytestmark = pytest.mark.alone

SETTINGS = settings_for("-", threads=0, max_batch=8)
KNOWN = Plan(batch=2, parallel=3, threads=4, threads_shared=2, source="stored")


class FakeEngine:
    """Remembers what it was warmed up with and what it computed."""

    def __init__(self, threads: int, device: str = "cpu", most: int = 1000) -> None:
        self.threads, self.device, self.most = threads, device, most
        self.warmed: list[int] = []
        self.computed: list[int] = []

    def run(self, pictures: Sequence[int]) -> Sequence[object]:
        if len(pictures) > self.most:
            raise GraphError("no memory for it")
        self.computed.append(len(pictures))
        return pictures

    def samples(self, count: int) -> Sequence[int]:
        return range(count)

    def warm_up(self, batch: int = 1) -> None:
        self.warmed.append(batch)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    monkeypatch.setattr(module, "ENOUGH_S", 0)


def test_without_a_plan_the_rule_decides_and_each_engine_is_opened_once() -> None:
    opened: list[FakeEngine] = []

    def open_engine(threads: int) -> FakeEngine:
        opened.append(FakeEngine(threads))
        return opened[-1]

    tuned = open_tuned(open_engine, SETTINGS)
    assert (tuned.plan.source, tuned.plan.batch, tuned.plan.parallel) == ("rule", 4, 4)
    assert tuned.shared is not None
    assert (tuned.engine.threads, tuned.shared.threads) == tuned.plan.thread_counts == (4, 1)
    assert sorted(one.threads for one in opened) == [1, 4]
    assert all(one.warmed == [1] and 4 in one.computed for one in opened)


def test_what_takes_a_thread_long_is_slow_and_waiting_is_not() -> None:
    class Busy(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            began = time.thread_time()
            while time.thread_time() < began + 1.1 * SLOW_S * len(pictures):
                pass
            return pictures

    class Waiting(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            time.sleep(1.1 * SLOW_S)  # as beside other processes
            return pictures

    assert open_tuned(Busy, SETTINGS).plan.batch == 1
    assert open_tuned(Waiting, SETTINGS).plan.batch == 4


def test_a_plan_that_is_known_is_followed_up_to_what_is_allowed() -> None:
    tuned = open_tuned(FakeEngine, SETTINGS, KNOWN)
    assert tuned.shared is not None
    assert (tuned.engine.threads, tuned.shared.threads) == (4, 2)
    assert (tuned.plan.source, tuned.plan.batch, tuned.plan.parallel) == ("stored", 2, 3)
    less = open_tuned(FakeEngine, settings_for("-", threads=0, max_batch=1), KNOWN)
    assert less.plan.batch == 1


def test_weights_that_are_not_to_be_held_twice_have_one_engine() -> None:
    for known in (KNOWN, None):
        tuned = open_tuned(FakeEngine, SETTINGS, known, is_single=True)
        assert (tuned.engine.threads, tuned.shared, tuned.plan.thread_counts) == (4, None, (4,))


def test_a_number_of_threads_that_is_set_is_the_only_one() -> None:
    tuned = open_tuned(FakeEngine, settings_for("-", threads=2))
    assert (tuned.engine.threads, tuned.shared, tuned.plan.parallel) == (2, None, 2)


def test_times_are_measured_and_those_of_a_plan_that_has_them_kept() -> None:
    """Of what the largest batch takes the watchdog hears, if that is longer than it was."""

    class Slow(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            time.sleep(0.02 if self.threads == 4 else 0.03 * len(pictures))
            return pictures

    plan = open_tuned(Slow, SETTINGS, KNOWN).plan
    assert plan.alone_s >= 0.02
    assert plan.batch_s >= 0.06  # of the slower engine
    assert plan.pace_s == pytest.approx(plan.batch_s / (2 * 2))  # two of its batches have cores
    times = {"alone_s": 7.0, "pace_s": 8.0, "batch_s": 0.001}
    plan = open_tuned(Slow, SETTINGS, KNOWN.model_copy(update=times)).plan
    assert (plan.alone_s, plan.pace_s) == (7, 8)
    assert plan.batch_s >= 0.06


def test_a_gpu_has_met_every_size_of_a_batch_before_it_serves() -> None:
    tuned = open_tuned(lambda threads: FakeEngine(threads, "cuda"), SETTINGS)
    assert (tuned.plan.batch, tuned.plan.parallel, tuned.shared) == (8, 2, None)
    assert sorted({*tuned.engine.warmed}) == [*range(1, 9)]
    assert tuned.engine.warmed[:8] == [*range(1, 9)]


def test_a_batch_that_cannot_be_computed_is_told_and_left_to_those_at_work() -> None:
    with capture_logs() as logs:
        tuned = open_tuned(lambda threads: FakeEngine(threads, most=2), SETTINGS)
    assert [(one["log_level"], one["batch"], one["reason"]) for one in logs] == [
        ("warning", 4, "no memory for it")
    ]
    assert (tuned.plan.batch, tuned.plan.batch_s > 0) == (4, True)


@pytest.mark.parametrize("known", [None, KNOWN, KNOWN.model_copy(update={"alone_s": 1.0})])
def test_an_engine_that_computes_no_item_does_not_serve(known: Plan | None) -> None:
    class Bad(FakeEngine):
        def run(self, pictures: Sequence[int]) -> Sequence[object]:
            return [GraphError("not finite") for _ in pictures]

    with pytest.raises(GraphError, match="not finite"):
        open_tuned(Bad, SETTINGS, known)


def test_a_real_engine(bundle_folder: Path) -> None:
    bundle = Bundle.read(bundle_folder)
    tuned = open_tuned(lambda threads: Engine(bundle, device="cpu", threads=threads), SETTINGS)
    assert tuned.shared is not None
    assert 0 < tuned.plan.alone_s < tuned.plan.batch_s * 4
