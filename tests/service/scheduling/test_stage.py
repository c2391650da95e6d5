"""Threads of a stage: results, errors, and failures that are told at once."""

import asyncio
import threading
import time
from functools import partial

import pytest

from service.errors import Kind, Problem
from service.scheduling import batcher
from service.scheduling.batcher import CallStage
from service.scheduling.caller import Caller
from service.scheduling.stage import StageError, StageResult


def started(stage: CallStage) -> list[str]:
    """Start, and collect the reasons of failures."""
    reasons: list[str] = []
    stage.on_failure = reasons.append
    stage.start()
    return reasons


def die() -> None:
    raise SystemExit


def test_results_and_errors_belong_to_their_callers() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 2)
        reasons = started(stage)
        assert await asyncio.gather(*(stage.run(lambda n=n: n * n) for n in range(20))) == [
            n * n for n in range(20)
        ]
        with pytest.raises(ZeroDivisionError):
            await stage.run(lambda: 1 // 0)
        assert await stage.run(threading.current_thread) is not threading.main_thread()
        assert reasons == []
        await stage.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("patience_s", "taken"), [(60.0, [1, 3, 3, 1]), (0.0, [1, 1, 1, 1])])
def test_short_calls_are_taken_and_told_together_and_fail_alone(
    monkeypatch: pytest.MonkeyPatch, patience_s: float, taken: list[int]
) -> None:
    monkeypatch.setattr(batcher, "TOGETHER_S", patience_s)

    async def scenario() -> None:
        stage = CallStage("stage", 1, max_batch=3)
        stage.start()
        first_began, gate = threading.Event(), threading.Event()

        def first() -> None:
            first_began.set()
            gate.wait(5)

        tasks = [asyncio.create_task(stage.submit(first))]
        await asyncio.to_thread(first_began.wait, 5)
        tasks += [asyncio.create_task(stage.submit(call)) for call in (int, lambda: 1 // 0, str, list)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(2), ZeroDivisionError)
        told = [(one.result, one.batch_size) for one in answers if isinstance(one, StageResult)]
        assert told == list(zip([None, 0, "", []], taken, strict=True))
        await stage.stop()

    asyncio.run(scenario())


def test_after_a_long_call_none_is_taken_with_another_for_a_while() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1, max_batch=4)
        stage.start()
        most = [stage.max_batch()]
        for seconds in (0, 1.5 * batcher.TOGETHER_S, *[0] * batcher.LAST):
            await stage.run(partial(time.sleep, seconds))
            most.append(stage.max_batch())
        assert most[:3] == [1, 4, 1]
        assert set(most[3:-1]) == {1}
        assert most[-1] == 4
        await stage.stop()

    asyncio.run(scenario())


def test_as_many_calls_at_once_as_there_are_threads() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 3)
        started(stage)
        barrier = threading.Barrier(3)
        await asyncio.gather(*(stage.run(lambda: barrier.wait(5)) for _ in range(3)))
        await stage.stop()

    asyncio.run(scenario())


def test_waiting_and_computing_are_told_apart() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1)
        started(stage)
        first, second = await asyncio.gather(stage.submit(lambda: time.sleep(0.05)), stage.submit(int))
        assert first.took_s >= 0.05
        assert second.took_s < second.queue_s
        await stage.stop()

    asyncio.run(scenario())


def test_a_cancelled_call_that_waits_is_not_made() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1)
        started(stage)
        gate, made = threading.Event(), threading.Event()
        first = asyncio.create_task(stage.run(lambda: gate.wait(5)))
        gone = asyncio.create_task(stage.run(made.set))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await first
        assert await stage.run(made.is_set) is False
        await stage.stop()

    asyncio.run(scenario())


def test_a_call_that_waits_for_a_cancelled_caller_is_dropped_at_once() -> None:
    async def scenario() -> None:
        stage, abandoned = CallStage("stage", 1), list[int]()
        stage.on_abandoned = lambda: abandoned.append(stage.depth)
        started(stage)
        gate, began = threading.Event(), threading.Event()

        def hold() -> None:
            began.set()
            gate.wait(5)

        running = asyncio.create_task(stage.run(hold))
        await asyncio.to_thread(began.wait, 5)
        waiting = [asyncio.create_task(stage.run(call)) for call in (int, str)]
        await asyncio.sleep(0)
        for task in (waiting[0], running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert abandoned == [1]
        gate.set()
        assert await waiting[1] == ""
        await stage.stop()

    asyncio.run(scenario())


def test_a_call_whose_deadline_has_passed_is_not_made() -> None:
    async def scenario() -> None:
        stage, made = CallStage("stage", 1), threading.Event()
        started(stage)
        with pytest.raises(Problem) as caught:
            await stage.submit(made.set, Caller(deadline=time.perf_counter() - 1))
        assert caught.value.kind is Kind.DEADLINE
        assert not made.is_set()
        await stage.stop()

    asyncio.run(scenario())


def test_a_death_that_is_told_late_fails_no_new_threads() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1)
        reasons = started(stage)
        stage.on_death(SystemExit())  # told to the event loop, which comes to it later
        stage.fail("stage: first")
        stage.start()
        await asyncio.sleep(0)
        assert await stage.run(lambda: 1) == 1
        assert reasons == ["stage: first"]
        await stage.stop()

    asyncio.run(scenario())


def test_a_dead_thread_fails_every_caller_at_once_and_new_threads_work() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1)
        reasons = started(stage)
        calls = [asyncio.create_task(stage.run(call)) for call in (die, lambda: None)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert [type(result) for result in results] == [StageError, StageError]
        assert reasons == ["stage: a thread died of SystemExit"]
        with pytest.raises(StageError, match="died"):
            await stage.run(lambda: 1)
        stage.start()
        assert await stage.run(lambda: 1) == 1
        await stage.stop()

    asyncio.run(scenario())


def test_a_hung_call_fails_every_caller_and_its_thread_is_left_behind() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1, limit_s=0.05)
        reasons = started(stage)
        gate = threading.Event()
        calls = [asyncio.create_task(stage.run(call)) for call in (gate.wait, lambda: None)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert [type(result) for result in results] == [StageError, StageError]
        assert "has been running for" in reasons[0]
        stage.start()
        gate.set()
        assert await stage.run(lambda: 7) == 7
        assert len(reasons) == 1
        await stage.stop()

    asyncio.run(scenario())


def test_short_calls_one_after_the_other_do_not_count_as_one_that_hangs() -> None:
    async def scenario() -> None:
        stage = CallStage("stage", 1, limit_s=0.2)
        reasons = started(stage)
        nap = threading.Event()
        for _ in range(12):
            await stage.run(lambda: nap.wait(0.03))
        assert reasons == []
        await stage.stop()

    asyncio.run(scenario())
