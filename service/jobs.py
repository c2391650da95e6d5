"""A queue between the event loop and threads, of which the one that worked last is woken first."""

from collections import deque
from queue import SimpleQueue
from threading import Lock
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Jobs(Generic[Job]):
    """First in, first out for jobs; last in, first out for the threads that wait for one.

    A single client is then served by the same few threads, whose memory is in the caches, not by all in turn.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: deque[Job] = deque()
        self._idle: list[SimpleQueue[Job]] = []

    def put(self, job: Job) -> None:
        """Give a job to the thread that has waited shortest, or leave it for the next that asks."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
            else:
                self._jobs.append(job)

    def get(self) -> Job:
        """The oldest job; waits for one."""
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            handed: SimpleQueue[Job] = SimpleQueue()
            self._idle.append(handed)
        return handed.get()
