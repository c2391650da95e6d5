"""Whatever is asked together, each caller gets its own answer exactly once."""

import asyncio
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.errors import Kind, Problem
from service.inference.backends.base import GraphError
from service.inference.isolation import IsolatedBatches
from service.scheduling.batcher import Batcher
from service.scheduling.caller import Caller
from service.scheduling.fair_queue import FairQueue
from service.scheduling.stage import StageResult
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import plain_picture, spotted_picture

Fate = Literal["good", "bad", "poisonous", "cancelled", "expired"]
FATES: tuple[Fate, ...] = ("good", "bad", "poisonous", "cancelled", "expired")


class Engine:
    """Doubles numbers; refuses bad ones, and fails as a whole when a poisonous one is in the batch."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self.fates = fates
        self.gate = threading.Event()
        self.computed: list[int] = []

    def run(self, numbers: list[int]) -> list[int | Exception]:
        assert self.gate.wait(10)
        self.computed += numbers
        if any(self.fates[number] == "poisonous" for number in numbers):
            raise GraphError("backbone: cannot be computed")
        return [ValueError(number) if self.fates[number] == "bad" else 2 * number for number in numbers]


async def ask(queue: FairQueue, batcher: Batcher[int, int], number: int, caller: Caller) -> StageResult[int]:
    async with queue.slot(caller):
        return await batcher.submit(number, caller)


async def answers_to(
    engine: Engine, clients: Sequence[int], max_batch: int, parallel: int, width: int
) -> list[StageResult[int] | BaseException]:
    """Ask for every number at once; cancel those that should be before the device is free."""
    queue, batcher = FairQueue(width), Batcher(IsolatedBatches(engine.run, max_batch), parallel=parallel)
    batcher.start()
    tasks: list[asyncio.Task[StageResult[int]]] = []
    for number, client in enumerate(clients):
        is_expired = engine.fates[number] == "expired"
        caller = Caller(str(client), perf_counter() - 1 if is_expired else float("inf"))
        tasks.append(asyncio.create_task(ask(queue, batcher, number, caller)))
    await asyncio.sleep(0)
    for task, fate in zip(tasks, engine.fates, strict=True):
        if fate == "cancelled":
            task.cancel()
    await asyncio.sleep(0)
    engine.gate.set()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    await batcher.stop()
    assert (queue.depth, batcher.depth) == (0, 0)
    return results


def is_right(fate: Fate, number: int, result: "StageResult[int] | BaseException") -> bool:
    if fate == "good":
        return isinstance(result, StageResult) and result.result == 2 * number
    if fate == "expired":
        return isinstance(result, Problem) and result.kind is Kind.DEADLINE
    if fate == "bad":
        return isinstance(result, ValueError) and result.args == (number,)
    return isinstance(result, GraphError if fate == "poisonous" else asyncio.CancelledError)


@settings(max_examples=100, deadline=None)
@given(
    items=st.lists(st.tuples(st.sampled_from(FATES), st.integers(0, 3)), min_size=1, max_size=24),
    max_batch=st.integers(1, 8),
    parallel=st.integers(1, 3),
    width=st.integers(1, 24),
)
def test_every_caller_gets_its_own_answer(
    items: list[tuple[Fate, int]], max_batch: int, parallel: int, width: int
) -> None:
    engine = Engine([fate for fate, _ in items])
    results = asyncio.run(answers_to(engine, [client for _, client in items], max_batch, parallel, width))
    for number, (fate, result) in enumerate(zip(engine.fates, results, strict=True)):
        assert is_right(fate, number, result), (number, fate, result)
        if fate == "expired":
            assert number not in engine.computed
        if fate == "good" and "poisonous" not in engine.fates:
            assert engine.computed.count(number) == 1


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_bad_picture_in_eight_leaves_seven_results_as_they_are_alone(
    start_service: ServiceFactory, place: int
) -> None:
    service = start_service()
    pictures = [encoded(make("brick")) for make in (plain_picture, spotted_picture) * 4]
    alone = [ask_one(service, picture) for picture in pictures]
    pictures[place] = pictures[place][:40]
    files = [("file", (str(number), picture)) for number, picture in enumerate(pictures)]
    results = service.post("/detect/batch", files=files).json()["results"]
    assert results.pop(place)["status"] == 422
    alone.pop(place)
    for result, expected in zip(results, alone, strict=True):
        same = ("category", "is_anomalous", "regions", "anomaly_map", "experts")
        assert {name: result[name] for name in same} == {name: expected[name] for name in same}
        assert np.isclose(result["raw_score"], expected["raw_score"], rtol=1e-6)


def ask_one(service: TestClient, picture: bytes) -> dict[str, Any]:
    return service.post("/detect", content=picture, headers={"Content-Type": "image/png"}).json()
