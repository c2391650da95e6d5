"""Two engines of one bundle: all threads for a batch that computes alone, fewer for each of several."""

from collections.abc import Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Computes(Protocol[Item_contra, Result_co]):
    """An engine: whatever computes batches of one kind of item, from several threads at once."""

    def run(self, pictures: Sequence[Item_contra], /) -> Sequence[Result_co | Exception]: ...


class Pair(Generic[Item_contra, Result_co]):
    """Computes a batch with `alone`, or while another one is computed with `shared`.

    Threads of one batch wait for each other; where two batches share the cores, each is faster without.
    """

    def __init__(
        self, alone: Computes[Item_contra, Result_co], shared: Computes[Item_contra, Result_co]
    ) -> None:
        self._alone, self._shared = alone, shared
        self._running = 0
        self._lock = Lock()

    def run(self, pictures: Sequence[Item_contra], /) -> Sequence[Result_co | Exception]:
        """One result or one exception per item, in order."""
        with self._lock:
            self._running += 1
            engine = self._alone if self._running == 1 else self._shared
        try:
            return engine.run(pictures)
        finally:
            with self._lock:
                self._running -= 1


def paired(alone: Computes[Item, Result], shared: Computes[Item, Result] | None) -> Computes[Item, Result]:
    """Both as one engine, or the only one."""
    return Pair(alone, shared) if shared else alone
