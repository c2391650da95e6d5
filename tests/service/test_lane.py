"""A model's way to the device: several batches at once give what single pictures give."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, current_thread
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from export.contract.bundle import Bundle
from export.contract.preprocess import fit
from service.caller import ANYONE
from service.engine import Engine, Outcome, Picture
from service.lane import LARGE, Lane, Way, watchdog_limit
from service.metrics import Metrics
from service.plan import Plan
from service.relay import Step, calling, relay
from service.tuned import Tuned
from service.workers import Batched
from tests.service.conftest import settings_for
from tests.tiny_bundle import plain_picture, spotted_picture

PLAN = Plan(batch=3, parallel=2, alone_s=0.01, pace_s=0.01, batch_s=0.01)


def start(lane: "Lane[Any, Any]") -> None:
    for workers in lane.stages:
        workers.start()


@dataclass
class Threads:
    """An engine on a device that gives the threads it is run by."""

    device: str

    def run(self, pictures: Sequence[object]) -> list[Thread]:
        return [current_thread() for _ in pictures]

    def samples(self, count: int) -> list[object]:
        return [object()] * count

    def warm_up(self, batch: int = 1) -> None:
        """It is warm."""


@pytest.mark.parametrize(("device", "is_one_thread"), [("cpu", True), ("cuda", False)])
def test_one_thread_takes_a_picture_all_the_way_unless_it_would_keep_a_gpu_waiting(
    device: str, is_one_thread: bool
) -> None:
    lane: Lane[object, Thread] = Lane(Tuned(Threads(device), PLAN), settings_for("-"), Metrics())

    async def work(way: Way, _: float) -> Sequence[Batched[Any]]:
        return await relay(
            Step(way.decoding, calling(current_thread)),
            Step(way.batcher, lambda thread: thread),
            Step(way.encoding, calling(lambda *_: current_thread())),
        )

    async def scenario() -> list[Thread]:
        start(lane)
        given = await lane.through(ANYONE, work)
        await lane.retire()
        return [batched.result for batched in given]

    decoded, computed, _ = asyncio.run(scenario())
    assert (decoded is computed) == is_one_thread


def test_batches_at_once_give_the_results_of_single_pictures(bundle_folder: Path) -> None:
    engine = Engine(Bundle.read(bundle_folder), device="cpu", threads=1)
    drawn = [make(name) for name in ("brick", "slate") for make in (plain_picture, spotted_picture)] * 8
    pictures = [Picture(fit(image, engine.manifest.input)) for image in drawn]
    alone = [engine.run([picture])[0] for picture in pictures]
    lane = Lane(Tuned(engine, PLAN), settings_for(bundle_folder), Metrics())

    async def one(picture: Picture) -> Outcome:
        return (await lane.through(ANYONE, lambda *_: lane.small.batcher.submit(picture))).result

    async def scenario() -> list[Outcome]:
        start(lane)
        results = await asyncio.gather(*map(one, pictures))
        await lane.retire()
        return results

    for result, expected in zip(asyncio.run(scenario()), alone, strict=True):
        assert isinstance(expected, Outcome)
        assert result.category.name == expected.category.name
        np.testing.assert_allclose(result.map, expected.map, rtol=1e-5, atol=1e-6)


def test_a_lane_retires_after_its_last_picture(bundle_folder: Path) -> None:
    engine = Engine(Bundle.read(bundle_folder), device="cpu", threads=1)
    settings = settings_for(bundle_folder)
    picture = Picture(fit(plain_picture("brick"), engine.manifest.input))
    lane = Lane(Tuned(engine, PLAN), settings, Metrics())

    async def work(*_: object) -> asyncio.Task[None]:
        retiring = asyncio.create_task(lane.retire())
        await asyncio.sleep(0)
        assert (await lane.small.batcher.submit(picture)).batch_size == 1
        assert not retiring.done()
        return retiring

    async def scenario() -> None:
        start(lane)
        await asyncio.wait_for(await lane.through(ANYONE, work), 30)

    asyncio.run(scenario())


@pytest.mark.parametrize(("effort", "is_large"), [(0, False), (LARGE, False), (LARGE + 1, True)])
def test_a_picture_that_is_known_to_be_large_goes_its_way_at_once(effort: int, is_large: bool) -> None:
    lane: Lane[object, Thread] = Lane(Tuned(Threads("cpu"), PLAN), settings_for("-"), Metrics())
    ways: list[Way] = []

    async def work(way: Way, _: float) -> None:
        ways.append(way)

    asyncio.run(lane.through(ANYONE, work, effort))
    assert ways == [lane.large if is_large else lane.small]


def test_half_of_the_threads_draw_at_once() -> None:
    settings = settings_for("-", host_threads=4)
    lane: Lane[object, Thread] = Lane(Tuned(Threads("cpu"), PLAN), settings, Metrics())
    drawing, most = set[Thread](), list[int]()

    def draw() -> None:
        drawing.add(current_thread())
        most.append(len(drawing))
        time.sleep(0.02)
        drawing.discard(current_thread())

    async def scenario() -> None:
        start(lane)
        await asyncio.gather(*(lane.small.encoding.run(draw) for _ in range(8)))
        await lane.retire()

    asyncio.run(scenario())
    assert max(most) == 2


def test_a_slow_model_gets_more_time_before_it_hangs_unless_a_limit_is_set() -> None:
    for watchdog_s, batch_s, expected in ((0, 0.1, 10), (0, 9, 180), (5, 0.1, 5), (5, 9, 5)):
        with capture_logs() as logs:
            limit_s = watchdog_limit(settings_for("-", watchdog_s=watchdog_s), "engine", batch_s, 10)
        assert limit_s == expected
        warned = [(one["log_level"], one["watchdog_s"], one["batch_s"]) for one in logs]
        assert warned == ([("warning", 5, 9)] if (watchdog_s, batch_s) == (5, 9) else [])
