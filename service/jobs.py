"""A queue between the event loop and threads, of which the one that worked last is woken first."""

from collections import deque
from collections.abc import Callable
from math import ceil
from threading import Lock
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Jobs(Generic[Job]):
    """First in, first out for jobs; last in, first out for the threads that wait for some.

    A single client is then served by the same few threads, whose memory is in the caches, not by all in turn.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: deque[Job] = deque()
        self._bells: list[Lock] = []  # of threads that sleep
        self._free = 0  # threads that ask
        self._is_closed = False

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def put(self, job: Job) -> bool:
        """Leave a job, and wake the thread that has slept shortest; false when it is closed."""
        with self._lock:
            if not self._is_closed:
                self._jobs.append(job)
                self._ring()
            return not self._is_closed

    def close(self) -> None:
        """Let the threads go once no job waits."""
        with self._lock:
            self._is_closed = True
            while self._bells:
                self._ring()

    def take(self, most: int, is_wanted: Callable[[Job], bool] = lambda _: True) -> list[Job]:
        """The oldest jobs that are wanted, the others are dropped; waits for one. Nothing when it is closed.

        At most `most`, and no more than leave something for other threads that ask.
        """
        with self._lock:
            self._free += 1
        while True:
            with self._lock:
                taken = self._take(most, is_wanted)
                if taken or self._is_closed:
                    self._free -= 1
                    return taken
                bell = Lock()
                bell.acquire()
                self._bells.append(bell)
            bell.acquire()

    def _take(self, most: int, is_wanted: Callable[[Job], bool]) -> list[Job]:
        size = min(most, ceil(len(self._jobs) / self._free))
        taken: list[Job] = []
        while self._jobs and len(taken) < size:
            job = self._jobs.popleft()
            if is_wanted(job):
                taken.append(job)
        return taken

    def _ring(self) -> None:
        if self._bells:
            self._bells.pop().release()
