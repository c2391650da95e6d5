"""The batcher takes what waits, keeps order, spares the cancelled, and stops cleanly."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from service.inference.backends.base import GraphError
from service.inference.isolation import IsolatedBatches
from service.scheduling.batcher import Batcher, CallStage
from service.scheduling.stage import StageError, StageResult
from service.scheduling.worker_pool import WorkerPool


class Doubler:
    """Doubles numbers, one batch at a time, when `gate` is open; fails on negative ones."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.batches.append(numbers)
        self.entered.set()
        assert self.gate.wait(5)
        if 0 in numbers:
            raise RuntimeError("the device is lost")
        return [ValueError(f"{number} is negative") if number < 0 else 2 * number for number in numbers]


async def occupied(doubler: Doubler, batcher: Batcher[int, int]) -> "asyncio.Task[StageResult[int]]":
    """Make the device busy with one item."""
    doubler.gate.clear()
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.to_thread(doubler.entered.wait, 5)
    return first


def submit_all(batcher: Batcher[int, int], numbers: Sequence[int]) -> "list[asyncio.Task[StageResult[int]]]":
    return [asyncio.create_task(batcher.submit(number)) for number in numbers]


def test_idle_device_takes_one_item_at_once() -> None:
    async def scenario() -> None:
        batcher = Batcher(IsolatedBatches(Doubler(), 4))
        batcher.start()
        batched = await asyncio.wait_for(batcher.submit(21), 5)
        assert (batched.result, batched.batch_size) == (42, 1)
        await batcher.stop()

    asyncio.run(scenario())


def test_waiting_items_are_computed_together_up_to_the_limit_and_in_order() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(IsolatedBatches(doubler, 3))
        batcher.start()
        first = await occupied(doubler, batcher)
        others = submit_all(batcher, [2, 3, 4, 5])
        await asyncio.sleep(0)
        assert batcher.depth == 4
        doubler.gate.set()
        assert [batched.result for batched in await asyncio.gather(first, *others)] == [2, 4, 6, 8, 10]
        assert doubler.batches == [[1], [2, 3, 4], [5]]
        assert (await others[0]).batch_size == 3
        assert (await others[0]).queue_s > 0
        await batcher.stop()

    asyncio.run(scenario())


def test_one_failing_item_leaves_the_others() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(IsolatedBatches(doubler, 4))
        batcher.start()
        first = await occupied(doubler, batcher)
        good, bad = submit_all(batcher, [2, -3])
        await asyncio.sleep(0)
        doubler.gate.set()
        assert (await good).result == 4
        with pytest.raises(ValueError, match="-3 is negative"):
            await bad
        await first
        await batcher.stop()

    asyncio.run(scenario())


def test_failing_batch_answers_its_callers_and_the_next_one_works() -> None:
    async def scenario() -> None:
        batcher = Batcher(IsolatedBatches(Doubler(), 4))
        batcher.start()
        with pytest.raises(RuntimeError, match="the device is lost"):
            await batcher.submit(0)
        assert (await batcher.submit(5)).result == 10
        await batcher.stop()

    asyncio.run(scenario())


def test_wrong_number_of_results_is_an_error_for_the_batch() -> None:
    async def scenario() -> None:
        nothing: list[int] = []
        batcher: Batcher[int, int] = Batcher(IsolatedBatches(lambda _: nothing, 4))
        batcher.start()
        with pytest.raises(GraphError, match="0 results for 1 items"):
            await batcher.submit(1)
        await batcher.stop()

    asyncio.run(scenario())


def test_cancelled_caller_is_never_computed() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(IsolatedBatches(doubler, 4))
        batcher.start()
        first = await occupied(doubler, batcher)
        gone, stays = submit_all(batcher, [2, 3])
        await asyncio.sleep(0)
        gone.cancel()
        doubler.gate.set()
        assert (await stays).result == 6
        assert doubler.batches == [[1], [3]]
        await first
        await batcher.stop()

    asyncio.run(scenario())


def test_caller_cancelled_while_computing_does_not_disturb() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(IsolatedBatches(doubler, 4))
        batcher.start()
        first = await occupied(doubler, batcher)
        first.cancel()
        doubler.gate.set()
        assert (await batcher.submit(4)).result == 8
        await batcher.stop()

    asyncio.run(scenario())


def test_stop_finishes_what_waits_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(IsolatedBatches(doubler, 1))
        batcher.start()
        first = await occupied(doubler, batcher)
        waiting = submit_all(batcher, [2, 3])
        await asyncio.sleep(0)
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(StageError, match="stopping"):
            await batcher.submit(4)
        doubler.gate.set()
        await stopping
        assert [(await task).result for task in (first, *waiting)] == [2, 4, 6]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("waiting", "patience_s", "is_first"), [(2, 60, False), (3, 60, True), (1, 60, False), (1, 0, True)]
)
def test_a_full_batch_or_one_that_has_waited_goes_before_others_work(
    monkeypatch: pytest.MonkeyPatch, waiting: int, patience_s: float, is_first: bool
) -> None:
    monkeypatch.setattr("service.scheduling.batcher.PATIENCE_S", patience_s)

    async def scenario() -> None:
        pool, order, gate = WorkerPool("pool", 1), list[str](), threading.Event()

        def run(numbers: list[int]) -> list[int]:
            order.append("batch")
            return numbers

        batcher = Batcher(IsolatedBatches(run, 3), pool=pool)
        calls = CallStage("calls", 1, pool=pool)
        batcher.start()
        calls.start()
        busy = asyncio.create_task(calls.run(lambda: gate.wait(5)))
        await asyncio.sleep(0)
        tasks = submit_all(batcher, range(waiting))
        call = asyncio.create_task(calls.run(lambda: order.append("call")))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(busy, call, *tasks)
        assert order == (["batch", "call"] if is_first else ["call", "batch"])
        for stage in (batcher, calls):
            await stage.stop()

    asyncio.run(scenario())
