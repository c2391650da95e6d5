"""Stages in a row: results are handed on in their threads, errors and failures belong to the caller."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from service.batcher import Batcher
from service.caller import Caller
from service.calls import CallWorkers
from service.errors import Kind, Problem
from service.relay import Step, calling, relay
from service.workers import StageError


def halved(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def with_stages(scenario: "Coroutine[Any, Any, None]", *stages: Any) -> None:
    async def run() -> None:
        for stage in stages:
            stage.start()
        await scenario
        for stage in stages:
            await asyncio.wait_for(stage.stop(), 5)

    asyncio.run(run())


def doubling() -> Batcher[int, int]:
    return Batcher(lambda numbers: [2 * number for number in numbers], 4)


def test_each_stage_gets_the_results_of_those_before_and_all_are_told() -> None:
    host, batcher = CallWorkers("host", 2), doubling()

    async def one(number: int) -> list[int]:
        def seen(first: int, second: int) -> int:
            return first + second

        steps = Step(host, calling(lambda: number)), Step(batcher, abs), Step(host, calling(seen))
        given = await relay(*steps)
        return [one.result for one in given]

    async def scenario() -> None:
        results = await asyncio.gather(*(one(number) for number in range(50)))
        assert results == [[number, 2 * number, 3 * number] for number in range(50)]

    with_stages(scenario(), host, batcher)


def test_an_error_of_a_stage_or_between_two_is_the_callers_alone() -> None:
    host, batcher = CallWorkers("host", 1), doubling()

    def refused(_: int) -> int:
        raise KeyError("between")

    async def scenario() -> None:
        bad = relay(Step(host, calling(lambda: 1)), Step(host, calling(halved)), Step(batcher, abs))
        between = relay(Step(host, calling(lambda: 1)), Step(batcher, refused))
        good = relay(Step(host, calling(lambda: 4)), Step(host, calling(halved)))
        results = await asyncio.gather(bad, between, good, return_exceptions=True)
        assert [type(result) for result in results] == [ValueError, KeyError, tuple]

    with_stages(scenario(), host, batcher)


def test_a_cancelled_one_costs_the_later_stages_nothing() -> None:
    host, gate, made = CallWorkers("host", 1), threading.Event(), threading.Event()

    async def scenario() -> None:
        task = asyncio.create_task(
            relay(Step(host, calling(lambda: gate.wait(5))), Step(host, calling(lambda _: made.set())))
        )
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert not await host.run(made.is_set)
        assert not await host.run(made.is_set)

    with_stages(scenario(), host)


def test_what_waits_for_a_cancelled_one_is_dropped_at_once() -> None:
    abandoned: list[int] = []
    busy = CallWorkers("busy", 1, on_abandoned=lambda: abandoned.append(1))
    free, gate, began = CallWorkers("free", 1), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        gate.wait(5)

    async def scenario() -> None:
        running = asyncio.create_task(relay(Step(busy, calling(hold)), Step(free, calling(abs))))
        await asyncio.to_thread(began.wait, 5)
        waiting = asyncio.create_task(relay(Step(free, calling(lambda: 1)), Step(busy, calling(abs))))
        alone = asyncio.create_task(busy.submit(lambda: 2))
        while busy.depth < 2:
            await asyncio.sleep(0.001)
        for task in (waiting, alone, running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (busy.depth, len(abandoned)) == (0, 2)
        gate.set()
        assert await busy.run(lambda: 3) == 3

    with_stages(scenario(), busy, free)


def test_a_deadline_counts_for_the_stage_it_is_given_to() -> None:
    host, batcher = CallWorkers("host", 1), doubling()
    late = Caller(deadline=time.perf_counter() - 1)

    async def scenario() -> None:
        with pytest.raises(Problem) as caught:
            await relay(Step(host, calling(lambda: 1)), Step(batcher, abs, late))
        assert caught.value.kind is Kind.DEADLINE

    with_stages(scenario(), host, batcher)


def test_a_later_stage_that_has_failed_answers_the_caller() -> None:
    host, dead = CallWorkers("host", 1), doubling()

    async def scenario() -> None:
        dead.fail("dead: of a test")
        with pytest.raises(StageError, match="of a test"):
            await asyncio.wait_for(relay(Step(host, calling(lambda: 1)), Step(dead, abs)), 5)

    with_stages(scenario(), host, dead)
