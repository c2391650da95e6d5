"""What large pictures took is given back, also when they are broken."""

import asyncio
import gc
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.backends.base import GraphError
from service.batcher import Batcher
from service.caller import Caller
from service.calls import CallWorkers
from service.errors import Problem
from service.image import LargePictureError
from service.lane import Lane, Way
from service.metrics import Metrics
from service.plan import Plan
from service.relay import Step, calling, relay
from service.tuned import Tuned
from service.turnstile import Turnstile
from service.zero_shot.text_cache import TextCache
from service.zero_shot.text_tower import ClassText
from tests.service.conftest import encoded, settings_for
from tests.service.fuzz import png_bomb
from tests.service.running import ServiceProcess, service_process
from tests.tiny_bundle import spotted_picture

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


async def of_workers() -> None:
    workers = CallWorkers("stage", 1)
    workers.start()
    try:
        await workers.run(lambda: 1 // 0)
    finally:
        await workers.run(int)  # by then the thread has left the first call behind


async def of_batches(run: Callable[[list[int]], Sequence[float | Exception]]) -> None:
    batcher = Batcher[int, float](run, 1)
    batcher.start()
    try:
        await batcher.submit(0)
    finally:
        await batcher.submit(1)


async def of_a_batcher() -> None:
    await of_batches(lambda items: [item or ZeroDivisionError() for item in items])


async def of_a_model() -> None:
    await of_batches(lambda items: [1 / item for item in items])


async def of_a_relay() -> None:
    workers = CallWorkers("stage", 1)
    workers.start()
    try:
        await relay(Step(workers, calling(int)), Step(workers, lambda _: 1 // 0))
    finally:
        await workers.run(int)


async def of_a_class_name() -> None:
    async def encode(_: str) -> ClassText:
        raise ZeroDivisionError

    await TextCache(8, Metrics()).texts("digest", ["name"], nullcontext, encode)


async def of_a_turnstile() -> None:
    turnstile = Turnstile(1)
    async with turnstile.turn(Caller()), turnstile.turn(Caller(deadline=time.perf_counter() + 0.01)):
        pytest.fail("there is one turn only")


async def of_a_large_picture() -> None:
    """Its first error is no error of its caller; what it held must be gone all the same."""
    lane = Lane(Tuned(Idle(), PLAN), settings_for("-"), Metrics())
    for workers in lane.stages:
        workers.start()

    def decode() -> None:
        raise LargePictureError

    async def work(way: Way, _: float) -> None:
        if way is lane.large:
            raise ZeroDivisionError
        await relay(Step(way.decoding, calling(decode)))

    try:
        await lane.through(Caller(), work)
    finally:
        await lane.retire()


@pytest.mark.parametrize(
    "error",
    [
        of_workers,
        of_a_batcher,
        of_a_relay,
        of_a_model,
        of_a_class_name,
        of_a_turnstile,
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
