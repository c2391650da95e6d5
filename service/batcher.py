"""Dynamic batching: while the device computes, pictures queue; when it is free, it takes what is there."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar

from service.caller import ANYONE, Caller, deadline_problem
from service.errors import Kind, Problem
from service.sparing import Sparing
from service.workers import StageError, Workers

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
    caller: Caller


class Batcher(Generic[Item, Result]):
    """An asyncio queue in front of worker threads; never waits for a batch to fill.

    `run` computes a batch and gives one result or one exception per item, in order (see `Sparing` for what
    happens when it fails). parallel: batches computed at once. limit_s: the age at which one counts as hung.
    name: of its threads, as a stage.
    on_abandoned: called for each item that was dropped since its caller had gone.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result | Exception]],
        max_batch: int,
        *,
        parallel: int = 1,
        limit_s: float = math.inf,
        name: str = "engine",
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_abandoned = on_abandoned
        self._run = Sparing(run, max_batch)
        self.workers = Workers(name, parallel, limit_s)
        self._free = parallel
        self._queue: deque[_Pending[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to take items; needs a running event loop."""
        self.workers.start()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self.workers.count)]

    async def stop(self) -> None:
        """Refuse new items, finish those that wait, end the threads."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._tasks)
        self.workers.stop()

    async def submit(self, item: Item, caller: Caller = ANYONE) -> Batched[Result]:
        """Compute one item; a caller cancelled while it waits takes its item out of the queue.

        Raises: Problem (503 after `stop`, 504 past the deadline); StageError; whatever `run` gave for it.
        """
        if self._closing:
            raise Problem(Kind.UNAVAILABLE, "the service is stopping")
        self.workers.check()
        answer: asyncio.Future[Batched[Result]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(item, answer, perf_counter(), caller))
        self._wake.set()
        try:
            return await answer
        finally:
            del answer  # an error's traceback holds this frame: without it, nobody the error

    async def _work(self) -> None:
        while self._queue or not self._closing:
            if batch := self._take():
                self._free -= 1
                await self._compute(batch)
                self._free += 1
            elif not self._closing:
                self._wake.clear()
                await self._wake.wait()

    def _take(self) -> list[_Pending[Item, Result]]:
        """What waits, up to the largest batch, and no more than leaves something for other free threads."""
        size = min(self._run.limit, math.ceil(len(self._queue) / max(1, self._free)))
        batch: list[_Pending[Item, Result]] = []
        while self._queue and len(batch) < size:
            pending = self._queue.popleft()
            if pending.answer.done():  # its caller was cancelled
                self._on_abandoned()
                continue
            if pending.caller.remaining_s <= 0:
                pending.answer.set_exception(deadline_problem("the picture was computed"))
            else:
                batch.append(pending)
        return batch

    async def _compute(self, batch: list[_Pending[Item, Result]]) -> None:
        started = perf_counter()
        items = [pending.item for pending in batch]
        results: Sequence[Result | Exception]
        try:
            results = await self.workers.run(partial(self._run, items))
        except StageError as error:
            results = [error] * len(batch)
        for pending, result in zip(batch, results, strict=True):
            if pending.answer.done():
                continue
            if isinstance(result, Exception):
                pending.answer.set_exception(result)
            else:
                pending.answer.set_result(Batched(result, started - pending.queued_at, len(batch)))
