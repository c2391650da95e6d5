"""Threads of a stage: results, errors, and failures that are told at once."""

import asyncio
import threading
import time
from functools import partial

import pytest

from service import calls
from service.calls import CallWorkers
from service.workers import Batched, StageError


def started(workers: CallWorkers) -> list[str]:
    """Start, and collect the reasons of failures."""
    reasons: list[str] = []
    workers.on_failure = reasons.append
    workers.start()
    return reasons


def die() -> None:
    raise SystemExit


def test_results_and_errors_belong_to_their_callers() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 2)
        reasons = started(workers)
        assert await asyncio.gather(*(workers.run(lambda n=n: n * n) for n in range(20))) == [
            n * n for n in range(20)
        ]
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert await workers.run(threading.current_thread) is not threading.main_thread()
        assert reasons == []
        await workers.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("patience_s", "taken"), [(60.0, [1, 3, 3, 1]), (0.0, [1, 1, 1, 1])])
def test_short_calls_are_taken_and_told_together_and_fail_alone(
    monkeypatch: pytest.MonkeyPatch, patience_s: float, taken: list[int]
) -> None:
    monkeypatch.setattr(calls, "TOGETHER_S", patience_s)

    async def scenario() -> None:
        workers = CallWorkers("stage", 1, together=3)
        workers.start()
        first_began, gate = threading.Event(), threading.Event()

        def first() -> None:
            first_began.set()
            gate.wait(5)

        tasks = [asyncio.create_task(workers.submit(first))]
        await asyncio.to_thread(first_began.wait, 5)
        tasks += [asyncio.create_task(workers.submit(call)) for call in (int, lambda: 1 // 0, str, list)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(2), ZeroDivisionError)
        told = [(one.result, one.batch_size) for one in answers if isinstance(one, Batched)]
        assert told == list(zip([None, 0, "", []], taken, strict=True))
        await workers.stop()

    asyncio.run(scenario())


def test_after_a_long_call_none_is_taken_with_another_for_a_while() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1, together=4)
        workers.start()
        most = [workers.most()]
        for seconds in (0, 1.5 * calls.TOGETHER_S, *[0] * calls.LAST):
            await workers.run(partial(time.sleep, seconds))
            most.append(workers.most())
        assert most[:3] == [1, 4, 1]
        assert set(most[3:-1]) == {1}
        assert most[-1] == 4
        await workers.stop()

    asyncio.run(scenario())


def test_as_many_calls_at_once_as_there_are_threads() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 3)
        started(workers)
        barrier = threading.Barrier(3)
        await asyncio.gather(*(workers.run(lambda: barrier.wait(5)) for _ in range(3)))
        await workers.stop()

    asyncio.run(scenario())


def test_waiting_and_computing_are_told_apart() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1)
        started(workers)
        first, second = await asyncio.gather(workers.submit(lambda: time.sleep(0.05)), workers.submit(int))
        assert first.took_s >= 0.05
        assert second.took_s < second.queue_s
        await workers.stop()

    asyncio.run(scenario())


def test_a_cancelled_call_that_waits_is_not_made() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1)
        started(workers)
        gate, made = threading.Event(), threading.Event()
        first = asyncio.create_task(workers.run(lambda: gate.wait(5)))
        gone = asyncio.create_task(workers.run(made.set))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await first
        assert await workers.run(made.is_set) is False
        await workers.stop()

    asyncio.run(scenario())


def test_a_dead_thread_fails_every_caller_at_once_and_new_threads_work() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1)
        reasons = started(workers)
        calls = [asyncio.create_task(workers.run(call)) for call in (die, lambda: None)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert [type(result) for result in results] == [StageError, StageError]
        assert reasons == ["stage: a thread died of SystemExit"]
        with pytest.raises(StageError, match="died"):
            await workers.run(lambda: 1)
        workers.start()
        assert await workers.run(lambda: 1) == 1
        await workers.stop()

    asyncio.run(scenario())


def test_a_hung_call_fails_every_caller_and_its_thread_is_left_behind() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1, limit_s=0.05)
        reasons = started(workers)
        gate = threading.Event()
        calls = [asyncio.create_task(workers.run(call)) for call in (gate.wait, lambda: None)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert [type(result) for result in results] == [StageError, StageError]
        assert "has been running for" in reasons[0]
        workers.start()
        gate.set()
        assert await workers.run(lambda: 7) == 7
        assert len(reasons) == 1
        await workers.stop()

    asyncio.run(scenario())


def test_short_calls_one_after_the_other_do_not_count_as_one_that_hangs() -> None:
    async def scenario() -> None:
        workers = CallWorkers("stage", 1, limit_s=0.2)
        reasons = started(workers)
        nap = threading.Event()
        for _ in range(12):
            await workers.run(lambda: nap.wait(0.03))
        assert reasons == []
        await workers.stop()

    asyncio.run(scenario())
