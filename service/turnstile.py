"""Whose turn it is: a few pictures are worked on, the others wait by client, still encoded."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import perf_counter

from service.caller import Caller, deadline_problem
from service.pace import Pace

Turn = asyncio.Future[None]


class Turnstile:
    """Lets `width` pictures through at once; those that wait are called in turn by client.

    A client with many pictures therefore delays another's next picture by one of its own, not by all.
    Whoever hangs up (is cancelled) or passes its deadline leaves the queue and costs nothing;
    `on_abandoned` is told of the former. pace_s: seconds between answers to expect at first.
    """

    def __init__(
        self, width: int, on_abandoned: Callable[[], None] = lambda: None, pace_s: float = 0.0
    ) -> None:
        self.width = width
        self._free = width
        self._pace = Pace(pace_s)
        self._on_abandoned = on_abandoned
        self._lines: OrderedDict[str, deque[Turn]] = OrderedDict()

    @property
    def depth(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))  # in one step, as other threads need it

    def wait_s(self, client: str) -> float:
        """Seconds until those are answered that go before the client's next picture; 0 without any."""
        own = len(self._lines.get(client, ()))
        called_before = sum(min(len(line), own + 1) for line in self._lines.values())
        return (self.width - self._free + called_before) * self._pace.seconds

    @asynccontextmanager
    async def turn(self, caller: Caller) -> AsyncGenerator[None, None]:
        """Wait for a turn, and hold it while the context lasts; without an error it was an answer.

        Raises: Problem (504) when the caller's deadline passes first.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(caller)
        began = perf_counter()
        try:
            yield
            self._pace.answered(began)
        finally:
            self._next()

    async def _wait(self, caller: Caller) -> None:
        loop = asyncio.get_running_loop()
        turn: Turn = loop.create_future()
        self._lines.setdefault(caller.client, deque()).append(turn)
        timer = None
        if caller.remaining_s < float("inf"):
            timer = loop.call_later(caller.remaining_s, self._expire, caller.client, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(caller.client, turn)
                self._on_abandoned()
            elif turn.exception() is None:  # called and cancelled at once
                self._next()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del turn, timer  # an error's traceback holds this frame: without them, nobody the error

    def _next(self) -> None:
        """Call the first of the client that has waited longest since its last turn."""
        while self._lines:
            client, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[client] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _expire(self, client: str, turn: Turn) -> None:
        if not turn.done():
            self._remove(client, turn)
            turn.set_exception(deadline_problem("the picture's turn came"))

    def _remove(self, client: str, turn: Turn) -> None:
        line = self._lines.get(client)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[client]
