"""Whose turn it is: a few pictures are worked on, the others wait by client, still encoded."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from service.scheduling.caller import Caller, deadline_problem
from service.scheduling.futures import result_of

# Of the latest interval. Answers come by the batch: with 0.1 the mean is now and then a third too short, and
# lets requests in then that pass their deadlines.
WEIGHT = 0.02

Waiter = asyncio.Future[None]


class AnswerInterval:
    """Seconds between answers while there is work, averaged over about the last hundred.

    seconds: the estimate to begin with, from the warm-up.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = perf_counter()

    def answered(self, since: float) -> None:
        """One more picture has its answer; it was worked on from `since` on (`perf_counter`).

        The time without work before that does not count.
        """
        now = perf_counter()
        self.seconds += WEIGHT * (now - max(self._last, since) - self.seconds)
        self._last = now


class FairQueue:
    """Lets `width` pictures through at once; those that wait are called in turn by client.

    A client with many pictures therefore delays another's next picture by one of its own, not by all.
    Whoever hangs up (is cancelled) or passes its deadline leaves the queue and costs nothing;
    `on_abandoned` is told of the former. interval_s: seconds between answers to expect at first.
    """

    def __init__(
        self, width: int, on_abandoned: Callable[[], None] = lambda: None, interval_s: float = 0.0
    ) -> None:
        self.width = width
        self._free = width
        self._interval = AnswerInterval(interval_s)
        self._on_abandoned = on_abandoned
        self._lines: OrderedDict[str, deque[Waiter]] = OrderedDict()

    @property
    def depth(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))  # in one step, as other threads need it

    def wait_s(self, client: str) -> float:
        """Seconds until those are answered that go before the client's next picture; 0 without any."""
        own = len(self._lines.get(client, ()))
        called_before = sum(min(len(line), own + 1) for line in self._lines.values())
        return (self.width - self._free + called_before) * self._interval.seconds

    @asynccontextmanager
    async def slot(self, caller: Caller) -> AsyncGenerator[None, None]:
        """Wait for a turn, and hold it while the context lasts; without an error it was an answer.

        Raises: Problem (504) when the caller's deadline passes first.
        """
        await self.acquire(caller)
        began, since = perf_counter(), None
        try:
            yield
            since = began
        finally:
            self.release(since)

    async def acquire(self, caller: Caller) -> None:
        """Wait for a turn, which ends with `release`. Raises: as `slot`."""
        if self._free:
            self._free -= 1
        else:
            await result_of(self._join(caller), on_cancel=partial(self._leave, caller.client))

    def release(self, since: float | None = None) -> None:
        """Call the first of the client that has waited longest since its last turn.

        since: when the work began (`perf_counter`), if its answer is there.
        """
        if since is not None:
            self._interval.answered(since)
        while self._lines:
            client, line = self._lines.popitem(last=False)
            waiter = line.popleft()
            if line:
                self._lines[client] = line
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _join(self, caller: Caller) -> Waiter:
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._lines.setdefault(caller.client, deque()).append(waiter)
        if caller.remaining_s < float("inf"):
            timer = loop.call_later(caller.remaining_s, self._expire, caller.client, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())
        return waiter

    def _leave(self, client: str, waiter: Waiter) -> None:
        """Of a caller who is cancelled."""
        if waiter.cancelled():
            self._remove(client, waiter)
            self._on_abandoned()
        elif waiter.exception() is None:  # called and cancelled at once
            self.release()

    def _expire(self, client: str, waiter: Waiter) -> None:
        if not waiter.done():
            self._remove(client, waiter)
            waiter.set_exception(deadline_problem("the picture's turn came", "queue"))

    def _remove(self, client: str, waiter: Waiter) -> None:
        line = self._lines.get(client)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._lines[client]
