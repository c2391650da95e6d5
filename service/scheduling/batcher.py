"""Two kinds of stages: one computes what waits in batches, the other makes calls."""

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol, TypeVar

from service.scheduling.stage import Stage
from service.scheduling.worker_pool import Priority, WorkerPool

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE_S = 0.05  # so long an item waits at most while threads of its pool decode others for its batch

TOGETHER_S = 0.05  # so long calls may take, by any of the last ones, whose results are told together
LAST = 8  # times that a thread took some


class Batches(Protocol[Item, Result]):
    """Computes batches of at most `limit` items, which may become fewer."""

    limit: int

    def __call__(self, items: list[Item]) -> list[Result | Exception]:
        """One result or one exception per item, in order."""
        ...


class Batcher(Stage[Item, Result]):
    """Dynamic batching: while the device computes, items queue; when it is free, it takes what is there.

    batches: computes them. parallel: batches computed at once. name, pool, limit_s: as `Stage` has them.
    """

    def __init__(
        self,
        batches: Batches[Item, Result],
        parallel: int = 1,
        name: str = "engine",
        pool: WorkerPool | None = None,
        limit_s: float = math.inf,
    ) -> None:
        self._batches = batches
        super().__init__(name, parallel, self._batches, pool, limit_s)

    def max_batch(self) -> int:
        """The largest batch that fits into the device's memory."""
        return self._batches.limit

    def priority(self) -> Priority:
        """That of a full batch, also when one has waited long enough."""
        is_full = len(self.waiting) >= self.max_batch()
        is_late = perf_counter() - self.waiting[0].queued_at >= PATIENCE_S
        return Priority.FULL_BATCH if is_full or is_late else Priority.BATCH


class CallStage(Stage[Callable[[], Any], Any]):
    """A stage whose items are calls, made one by one, all of one priority.

    max_batch: of so many that wait a thread tells the results at once, of fewer if they take longer than
    TOGETHER_S: to wake the event loop for each would cost more than the first of them gains.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        pool: WorkerPool | None = None,
        limit_s: float = math.inf,
        priority: Priority = Priority.DECODE,
        max_batch: int = 1,
    ) -> None:
        super().__init__(name, workers, self._make, pool, limit_s)
        self._priority, self._max_batch = priority, max_batch
        self._each_s: deque[float] = deque(maxlen=LAST)

    def max_batch(self) -> int:
        """How many calls a thread takes."""
        longest_s = max(list(self._each_s), default=math.inf)  # a copy, to which no thread adds meanwhile
        return max(1, min(self._max_batch, int(TOGETHER_S / longest_s)))

    def priority(self) -> Priority:
        """The one it was made with."""
        return self._priority

    async def run(self, call: Callable[[], Result]) -> Result:
        """Call in one of the threads. Raises: as `submit`, and whatever the call raises."""
        return (await self.submit(call)).result

    def _make(self, calls: list[Callable[[], Any]]) -> list[Any]:
        began = perf_counter()
        try:
            return [_made(call) for call in calls]  # unnamed: an error's traceback holds this frame
        finally:
            self._each_s.append(max(1e-6, (perf_counter() - began) / len(calls)))


def _made(call: Callable[[], Result]) -> Result | Exception:
    """What a call gives or raises."""
    try:
        return call()
    except Exception as error:  # belongs to the caller
        return error
