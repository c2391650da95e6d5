"""Dynamic batching: while the device computes, pictures queue; when it is free, it takes what is there."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from service.errors import Kind, Problem

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """One item's result, how long it queued (seconds) and how many items were computed with it."""

    result: Result
    queue_s: float
    batch_size: int


@dataclass(frozen=True)
class _Pending(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Batched[Result]]
    queued_at: float


class Batcher(Generic[Item, Result]):
    """An asyncio queue in front of one worker thread; never waits for a batch to fill.

    `run` computes a batch and gives one result or one exception per item, in order. The queue is
    bounded by its callers' permits (see `service.permits`).
    """

    def __init__(self, run: Callable[[list[Item]], Sequence[Result | Exception]], max_batch: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._queue: deque[_Pending[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to take items; needs a running event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Refuse new items, finish those that wait, end the thread."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def submit(self, item: Item) -> Batched[Result]:
        """Compute one item; a caller cancelled while it waits takes its item out of the queue.

        Raises: Problem (503) after `stop`; whatever `run` gave for this item.
        """
        if self._closing:
            raise Problem(Kind.UNAVAILABLE, "the service is stopping")
        answer: asyncio.Future[Batched[Result]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(item, answer, perf_counter()))
        self._wake.set()
        return await answer

    async def _work(self) -> None:
        while self._queue or not self._closing:
            self._wake.clear()
            if batch := self._take():
                await self._compute(batch)
            elif not self._closing:
                await self._wake.wait()

    def _take(self) -> list[_Pending[Item, Result]]:
        batch: list[_Pending[Item, Result]] = []
        while self._queue and len(batch) < self._max_batch:
            pending = self._queue.popleft()
            if not pending.answer.done():  # done here means: its caller was cancelled
                batch.append(pending)
        return batch

    async def _compute(self, batch: list[_Pending[Item, Result]]) -> None:
        started = perf_counter()
        items = [pending.item for pending in batch]
        answered: list[tuple[_Pending[Item, Result], Result | Exception]]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
            answered = list(zip(batch, results, strict=True))
        except Exception as error:  # whatever fails a whole batch must answer its callers, not end the worker
            answered = [(pending, error) for pending in batch]
        for pending, result in answered:
            if pending.answer.done():
                continue
            if isinstance(result, Exception):
                pending.answer.set_exception(result)
            else:
                pending.answer.set_result(Batched(result, started - pending.queued_at, len(batch)))
