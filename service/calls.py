"""A stage that makes calls."""

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from service.crew import Crew
from service.jobs import Rank
from service.workers import Workers

Result = TypeVar("Result")

TOGETHER_S = 0.05  # so long calls may take, by any of the last ones, whose results are told together
LAST = 8  # times that a thread took some


class CallWorkers(Workers[Callable[[], Any], Any]):
    """Workers whose items are calls, made one by one; they all are of one rank.

    together: of so many that wait a thread tells the results at once, of fewer if they take longer than
    TOGETHER_S: to wake the event loop for each would cost more than the first of them gains.
    """

    def __init__(
        self,
        name: str,
        count: int,
        limit_s: float = math.inf,
        crew: Crew | None = None,
        rank: Rank = Rank.DECODE,
        on_abandoned: Callable[[], None] = lambda: None,
        *,
        together: int = 1,
    ) -> None:
        super().__init__(
            name,
            count,
            self._make,
            crew=crew,
            limit_s=limit_s,
            on_abandoned=on_abandoned,
        )
        self._of_rank = rank
        self._together = together
        self._each_s: deque[float] = deque(maxlen=LAST)

    def most(self) -> int:
        """How many calls a thread takes."""
        longest_s = max(list(self._each_s), default=math.inf)  # a copy, to which no thread adds meanwhile
        return max(1, min(self._together, int(TOGETHER_S / longest_s)))

    def rank(self, waiting: int, oldest_s: float) -> Rank:
        """The one it was made with."""
        del waiting, oldest_s
        return self._of_rank

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
    finally:
        del call  # an error's traceback holds this frame: without it, nobody the error
