"""A model's way to the device: several batches at once give what single pictures give."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import Thread, current_thread
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs

from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from export.contract.preprocess import fit
from service.errors import Problem
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.metrics import Metrics
from service.models.pipeline import LARGE, ModelPipeline, watchdog_limit
from service.scheduling.caller import ANYONE
from service.scheduling.stage import StageError
from service.tuning.plan import Plan
from service.tuning.search import TunedEngine
from tests.service.conftest import encoded, settings_for
from tests.tiny_bundle import plain_picture, spotted_picture

SPEC = InputSpec(height=28, width=28)
PLAN = Plan(batch=3, parallel=2, alone_s=0.01, pace_s=0.01, batch_s=0.01)


def start(pipeline: "ModelPipeline[Any, Any]") -> None:
    for stage in pipeline.stages:
        stage.start()


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


def pipeline_of(engine: Any, **settings: object) -> "ModelPipeline[Any, Any]":
    return ModelPipeline(TunedEngine(engine, PLAN), settings_for("-", **settings), Metrics())


@pytest.mark.parametrize(("device", "pools"), [("cpu", ["worker"]), ("cuda", ["host", "device", "host"])])
def test_one_pool_takes_a_picture_all_the_way_unless_it_would_keep_a_gpu_waiting(
    device: str, pools: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_of(Threads(device))
    monkeypatch.setattr("service.models.pipeline.open_picture", lambda *_: current_thread())

    async def scenario() -> list[Thread]:
        start(pipeline)
        async with pipeline.slot(ANYONE) as slot:
            opened = await slot.decode(b"", SPEC)
            computed = await slot.compute(opened.result)
            encoded = await slot.encode(current_thread)
        await pipeline.retire()
        return [cast(Any, one.result) for one in (opened, computed, encoded)]

    names = [thread.name.partition("-")[0] for thread in asyncio.run(scenario())]
    assert [name for name, _ in groupby(names)] == pools


def test_batches_at_once_give_the_results_of_single_pictures(bundle_folder: Path) -> None:
    engine = Engine(Bundle.read(bundle_folder), device="cpu", threads=1)
    drawn = [make(name) for name in ("brick", "slate") for make in (plain_picture, spotted_picture)] * 8
    pictures = [Picture(fit(image, engine.manifest.input)) for image in drawn]
    alone = [engine.run([picture])[0] for picture in pictures]
    pipeline = ModelPipeline(TunedEngine(engine, PLAN), settings_for(bundle_folder), Metrics())

    async def one(picture: Picture) -> Outcome:
        async with pipeline.slot(ANYONE) as slot:
            return (await slot.compute(picture)).result

    async def scenario() -> list[Outcome]:
        start(pipeline)
        results = await asyncio.gather(*map(one, pictures))
        await pipeline.retire()
        return results

    for result, expected in zip(asyncio.run(scenario()), alone, strict=True):
        assert isinstance(expected, Outcome)
        assert result.category.name == expected.category.name
        np.testing.assert_allclose(result.map, expected.map, rtol=1e-5, atol=1e-6)


def test_a_pipeline_retires_after_its_last_picture() -> None:
    pipeline = pipeline_of(Threads("cpu"))

    async def scenario() -> None:
        start(pipeline)
        async with pipeline.slot(ANYONE) as slot:
            retiring = asyncio.create_task(pipeline.retire())
            await asyncio.sleep(0)
            assert (await slot.compute(object())).batch_size == 1
            assert not retiring.done()
        await asyncio.wait_for(retiring, 30)

    asyncio.run(scenario())


@pytest.mark.parametrize(("effort", "is_large"), [(0, False), (LARGE, False), (LARGE + 1, True)])
def test_a_picture_that_is_known_to_be_large_takes_its_turn_among_the_large(
    effort: int, is_large: bool
) -> None:
    pipeline = pipeline_of(Threads("cpu"))

    async def scenario() -> None:
        async with pipeline.slot(ANYONE, effort):
            used = [one.queue.wait_s("") > 0 for one in (pipeline.small, pipeline.large)]
            assert used == [not is_large, is_large]

    asyncio.run(scenario())


def test_a_picture_that_turns_out_to_be_large_gives_its_place_back_and_waits_again() -> None:
    pipeline = pipeline_of(Threads("cpu"))
    data = encoded(Image.new("RGB", (1200, 1000)), "BMP")  # a type of which nothing is known before

    async def scenario() -> None:
        start(pipeline)
        for _ in range(pipeline.large.queue.width):
            await pipeline.large.queue.acquire(ANYONE)
        async with pipeline.slot(ANYONE) as slot:
            decoding = asyncio.create_task(slot.decode(data, SPEC))
            while not pipeline.large.queue.depth:
                await asyncio.sleep(0.001)
            assert pipeline.small.queue.wait_s("") == 0
            pipeline.large.queue.release()
            assert (await decoding).result.size == (1200, 1000)
        for _ in range(pipeline.large.queue.width - 1):
            pipeline.large.queue.release()
        assert pipeline.large.queue.wait_s("") == 0
        await pipeline.retire()

    asyncio.run(scenario())


def test_a_large_picture_whose_caller_leaves_in_line_gives_back_no_place_twice() -> None:
    pipeline = pipeline_of(Threads("cpu"))
    data = encoded(Image.new("RGB", (1200, 1000)), "BMP")

    async def large() -> None:
        async with pipeline.slot(ANYONE) as slot:
            await slot.decode(data, SPEC)

    async def scenario() -> None:
        start(pipeline)
        free = [one.queue._free for one in (pipeline.small, pipeline.large)]
        for _ in range(pipeline.large.queue.width):
            await pipeline.large.queue.acquire(ANYONE)
        leaving = asyncio.create_task(large())
        while not pipeline.large.queue.depth:
            await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.wait([leaving])
        for _ in range(pipeline.large.queue.width):
            pipeline.large.queue.release()
        assert [one.queue._free for one in (pipeline.small, pipeline.large)] == free
        await pipeline.retire()

    asyncio.run(scenario())


def test_an_error_of_one_stage_or_of_what_comes_between_is_the_callers_alone() -> None:
    pipeline = pipeline_of(Threads("cpu"))
    picture = encoded(plain_picture("brick"))

    async def one(data: bytes, fault: str = "") -> object:
        async with pipeline.slot(ANYONE) as slot:
            opened = await slot.decode(data, SPEC)
            if fault == "between":
                raise KeyError
            await slot.compute(opened.result)
            return (await slot.encode(partial(divmod, 1, 0 if fault else 1))).result

    async def scenario() -> None:
        start(pipeline)
        asked = one(picture), one(picture[:40]), one(picture, "between"), one(picture, "encode"), one(picture)
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result) for result in results] == [tuple, Problem, KeyError, ZeroDivisionError, tuple]
        await pipeline.retire()

    asyncio.run(scenario())


def test_a_model_whose_device_has_failed_decodes_nothing() -> None:
    pipeline = pipeline_of(Threads("cpu"))

    async def scenario() -> None:
        start(pipeline)
        pipeline.small.batcher.fail("engine: of a test")
        with pytest.raises(StageError, match="of a test"):
            async with pipeline.slot(ANYONE):
                pytest.fail("it has no place")
        assert pipeline.small.queue.wait_s("") == 0
        await pipeline.retire()

    asyncio.run(scenario())


def test_half_of_the_threads_draw_at_once() -> None:
    pipeline = pipeline_of(Threads("cpu"), host_threads=4)
    drawing, most = set[Thread](), list[int]()

    def draw() -> None:
        drawing.add(current_thread())
        most.append(len(drawing))
        time.sleep(0.02)
        drawing.discard(current_thread())

    async def scenario() -> None:
        start(pipeline)
        await asyncio.gather(*(pipeline.small.encoding.run(draw) for _ in range(8)))
        await pipeline.retire()

    asyncio.run(scenario())
    assert max(most) == 2


def test_a_slow_model_gets_more_time_before_it_hangs_unless_a_limit_is_set() -> None:
    for watchdog_s, batch_s, expected in ((0, 0.1, 10), (0, 9, 180), (5, 0.1, 5), (5, 9, 5)):
        with capture_logs() as logs:
            limit_s = watchdog_limit(settings_for("-", watchdog_s=watchdog_s), "engine", batch_s, 10)
        assert limit_s == expected
        warned = [(one["log_level"], one["watchdog_s"], one["batch_s"]) for one in logs]
        assert warned == ([("warning", 5, 9)] if (watchdog_s, batch_s) == (5, 9) else [])
