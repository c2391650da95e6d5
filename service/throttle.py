"""Long work in small parts that leaves the cores to what is served meanwhile."""

from collections.abc import Callable
from threading import Event
from time import perf_counter

SHARE = 3.0  # a rest is so many times as long as the part before it

Pause = Callable[[], None]
"""Called after each part of a work."""


def no_pause() -> None:
    """Where nothing else is at work."""


class StoppedError(RuntimeError):
    """The work is not wanted any more."""


class Throttle:
    """Rests after each part, in proportion to how long the part took since the last rest.

    stop: once it is set, the next or present rest raises StoppedError.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._began = perf_counter()

    def __call__(self) -> None:
        if self._stop.wait(SHARE * (perf_counter() - self._began)):
            raise StoppedError("the service is stopping")
        self._began = perf_counter()
