"""Long work in small parts that leaves the cores to what is served meanwhile."""

from collections.abc import Callable
from time import perf_counter, sleep

SHARE = 2.0  # a rest is so many times as long as the part before it

Rest = Callable[[], None]
"""Called after each part of a work."""


def no_rest() -> None:
    """Where nothing else is at work."""


class Resting:
    """Rests after each part, in proportion to how long the part took since the last rest."""

    def __init__(self) -> None:
        self._began = perf_counter()

    def __call__(self) -> None:
        sleep(SHARE * (perf_counter() - self._began))
        self._began = perf_counter()
