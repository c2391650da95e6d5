"""Two engines of one bundle: all threads for a batch that computes alone, fewer for each of several."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Computes(Protocol[Item_contra, Result_co]):
    """An engine: whatever computes batches of one kind of item, from several threads at once."""

    def run(self, pictures: Sequence[Item_contra], /) -> Sequence[Result_co | Exception]: ...


class DualEngine(Generic[Item_contra, Result_co]):
    """Computes a batch with `alone`; with `shared` while another one is computed or `others_wait`.

    Threads of one batch wait for each other; where two batches share the cores, each is faster without.
    """

    def __init__(
        self,
        alone: Computes[Item_contra, Result_co],
        shared: Computes[Item_contra, Result_co],
        others_wait: Callable[[], bool],
    ) -> None:
        self._alone, self._shared, self._others_wait = alone, shared, others_wait
        self._running = 0
        self._lock = Lock()

    def run(self, pictures: Sequence[Item_contra], /) -> Sequence[Result_co | Exception]:
        """One result or one exception per item, in order."""
        with self._lock:
            self._running += 1
            is_alone = self._running == 1 and not self._others_wait()
        try:
            return (self._alone if is_alone else self._shared).run(pictures)
        finally:
            with self._lock:
                self._running -= 1
