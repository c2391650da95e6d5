"""What large pictures took is given back, also when they are broken."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from service.detection.text_cache import TextCache
from service.errors import Problem
from service.inference.backends.base import GraphError
from service.inference.isolation import IsolatedBatches
from service.inference.text_tower import ClassText
from service.metrics import Metrics
from service.models.pipeline import ModelPipeline
from service.scheduling.batcher import Batcher, CallStage
from service.scheduling.caller import Caller
from service.scheduling.fair_queue import FairQueue
from service.tuning.plan import Plan
from service.tuning.search import TunedEngine
from tests.service.conftest import encoded, settings_for
from tests.service.fuzz import png_bomb
from tests.service.running import ServiceProcess, service_process
from tests.tiny_bundle import spotted_picture

pytestmark = pytest.mark.alone

PNG = {"Content-Type": "image/png"}
PLAN = Plan(batch=1, parallel=1, alone_s=0.01, pace_s=0.01, batch_s=0.01)


class Held:
    """Something large that a caller's frame holds."""


@dataclass
class Idle:
    """An engine that is not asked."""

    device: str = "cpu"

    def run(self, pictures: Sequence[object]) -> list[object]:
        return list(pictures)

    def samples(self, count: int) -> list[object]:
        return [object()] * count

    def warm_up(self, batch: int = 1) -> None:
        """It is warm."""


async def of_a_call() -> None:
    stage = CallStage("stage", 1)
    stage.start()
    try:
        await stage.run(lambda: 1 // 0)
    finally:
        await stage.run(int)  # by then the thread has left the first call behind


async def of_a_call_among_others() -> None:
    """Whose thread makes and tells several together."""
    stage, gate = CallStage("stage", 1, max_batch=4), threading.Event()
    stage.start()
    await stage.run(int)  # a short one, so that others are taken together
    holding = asyncio.create_task(stage.run(lambda: gate.wait(5)))
    await asyncio.sleep(0)
    others = [asyncio.create_task(stage.run(call)) for call in (int, lambda: 1 // 0, str)]
    await asyncio.sleep(0)
    gate.set()
    try:
        await asyncio.gather(holding, *others)
    finally:
        others.clear()
        await stage.run(int)


async def of_batches(run: Callable[[list[int]], Sequence[float | Exception]]) -> None:
    batcher = Batcher[int, float](IsolatedBatches(run, 1))
    batcher.start()
    try:
        await batcher.submit(0)
    finally:
        await batcher.submit(1)


async def of_a_batcher() -> None:
    await of_batches(lambda items: [item or ZeroDivisionError() for item in items])


async def of_a_model() -> None:
    await of_batches(lambda items: [1 / item for item in items])


async def of_a_class_name() -> None:
    async def encode(_: str) -> ClassText:
        raise ZeroDivisionError

    await TextCache(8, Metrics()).texts("digest", ["name"], nullcontext, encode)


async def of_a_queue() -> None:
    queue = FairQueue(1)
    async with queue.slot(Caller()), queue.slot(Caller(deadline=time.perf_counter() + 0.01)):
        pytest.fail("there is one place only")


async def of_a_large_picture() -> None:
    """Its first error is no error of its caller; what it held must be gone all the same."""
    pipeline = ModelPipeline(TunedEngine(Idle(), PLAN), settings_for("-"), Metrics())
    data = encoded(Image.new("RGB", (2000, 1000)), "BMP")[:-9]
    for stage in pipeline.stages:
        stage.start()
    try:
        async with pipeline.slot(Caller()) as slot:
            await slot.decode(data, InputSpec(height=8, width=8))
    finally:
        await pipeline.retire()


@pytest.mark.parametrize(
    "error",
    [
        of_a_call,
        of_a_call_among_others,
        of_a_batcher,
        of_a_model,
        of_a_class_name,
        of_a_queue,
        of_a_large_picture,
    ],
)
def test_an_error_keeps_nothing_of_its_caller(error: Callable[[], Awaitable[None]]) -> None:
    async def scenario() -> None:
        references: list[weakref.ref[Held]] = []

        async def caller() -> None:
            held = Held()
            references.append(weakref.ref(held))
            await error()

        with pytest.raises((ZeroDivisionError, GraphError, Problem)):
            await caller()
        await asyncio.sleep(0)
        assert references[0]() is None

    gc.collect()
    gc.disable()  # which would find it in the end, hundreds of pictures later
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_broken_pictures_leave_no_memory(bundle_folder: Path, tmp_path: Path) -> None:
    with service_process(bundle_folder, tmp_path / "log", host_threads=2) as service:
        verdict = ask(service, encoded(spotted_picture("brick")))
        large = [png_bomb(5000, 5000, claimed) for claimed in (20_000_000, 75_005_000)] * 6
        ask(service, large[0])
        held = memory_bytes(service)
        with ThreadPoolExecutor(4) as pool:
            statuses = {answer["status"] for answer in pool.map(lambda data: ask(service, data), large)}
        assert statuses == {200, 422}
        stop = time.monotonic() + 10
        while memory_bytes(service) >= 1.1 * held:  # the last thread may still be at it
            assert time.monotonic() < stop
            time.sleep(0.05)
        assert ask(service, encoded(spotted_picture("brick")))["raw_score"] == verdict["raw_score"]


def ask(service: ServiceProcess, data: bytes) -> dict[str, object]:
    """The answer, with its status."""
    answer = httpx.post(
        f"{service.url}/detect", content=data, headers=PNG, params={"map": "none"}, timeout=60
    )
    return {**answer.json(), "status": answer.status_code}


def memory_bytes(service: ServiceProcess) -> int:
    """What the service holds in memory."""
    return int(Path(f"/proc/{service.popen.pid}/statm").read_text().split()[1]) * 4096
