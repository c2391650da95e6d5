"""Threads that work for one stage or for several, each on what is most pressing."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from service.jobs import Jobs

Job = TypeVar("Job")


class Crew:
    """Threads, which live as long as there are jobs to serve; they never keep the process from ending.

    `size` of them work at once. Jobs that give way are done by those that would be idle, or by one more, so
    that they get on, too; there are `aside` threads more, since no others wait for what such jobs keep busy.

    Whoever worked last is woken first, and a thread that leaves jobs for its own crew takes of them itself
    before it wakes another: a single client is served by one thread all the way, whose memory is in the
    caches. Nothing polls: an idle crew costs nothing.
    """

    def __init__(self, name: str, size: int, aside: int = 0) -> None:
        self._name, self._size, self._threads = name, size, size + aside
        self._lock = Lock()
        self._served: list[Jobs[Any]] = []
        self._members: set[Thread] = set()
        self._asking = 0
        self._bells: list[Lock] = []  # of threads that sleep
        self._numbers = count()

    def serve(self, jobs: Jobs[Any]) -> None:
        """Work on these jobs, too; makes the threads that are missing."""
        with self._lock:
            self._served.append(jobs)
            names = [f"{self._name}-{next(self._numbers)}" for _ in range(self._threads - len(self._members))]
            new = [Thread(target=self._work, name=name, daemon=True) for name in names]
            self._members.update(new)
        for thread in new:
            thread.start()

    def put(self, jobs: Jobs[Job], job: Job) -> bool:
        """Leave a job, and see that a thread comes for it; false when the jobs are closed."""
        with self._lock:
            if not jobs.is_closed:
                jobs.waiting.append(job)
                if current_thread() not in self._members and self._room(jobs) > 0:
                    self._ring()
            return not jobs.is_closed

    def drop(self, jobs: Jobs[Job], is_dropped: Callable[[Job], bool]) -> list[Job]:
        """Take jobs out of those that wait, undone."""
        with self._lock:
            dropped = [job for job in jobs.waiting if is_dropped(job)]
            for job in dropped:
                jobs.waiting.remove(job)
            jobs.end_if_over()
        return dropped

    def close(self, jobs: Jobs[Any]) -> None:
        """Take no more of these jobs; those that wait are done."""
        with self._lock:
            jobs.is_closed = True
            jobs.end_if_over()

    def leave(self, jobs: Jobs[Any]) -> None:
        """Serve them no longer; threads that still work on them are left to themselves."""
        with self._lock:
            jobs.is_closed = True
            with suppress(ValueError):  # left before
                self._served.remove(jobs)
            self._members -= jobs.running
            self._ring_for_more()  # which threads that are left may have put for themselves
            if not self._served:
                while self._bells:
                    self._ring()

    def _work(self) -> None:
        while self._work_once(current_thread()):
            pass

    def _work_once(self, thread: Thread) -> bool:
        """Do what is most pressing; false when it is over. As this returns, no idle thread keeps a job."""
        taken = self._take(thread)
        if taken is None:
            return False
        jobs, batch = taken
        del taken
        try:
            jobs.work(batch)
        except BaseException as error:  # it ends the thread all the same
            with self._lock:
                self._members.discard(thread)
            jobs.on_death(error)
            return False
        finally:
            del batch  # an error's traceback holds this frame: without it, nobody the error
        with self._lock:
            jobs.running.discard(thread)
            jobs.end_if_over()
        return True

    def _take(self, thread: Thread) -> tuple[Jobs[Any], list[Any]] | None:
        """Jobs to work on, waits for some; None when there is nothing to serve or the thread was left."""
        with self._lock:
            self._asking += 1
        while True:
            with self._lock:
                is_over = not self._served or thread not in self._members
                taken = None if is_over else self._most_pressing(thread)
                if is_over or taken:
                    self._asking -= 1
                    if is_over:
                        self._members.discard(thread)
                    else:
                        self._ring_for_more()
                    return taken
                bell = Lock()
                bell.acquire()
                self._bells.append(bell)
            bell.acquire()

    def _most_pressing(self, thread: Thread) -> tuple[Jobs[Any], list[Any]] | None:
        while ready := [jobs for jobs in self._served if self._room(jobs) > 0]:
            jobs = min(ready, key=lambda one: (one.gives_way, one.rank))
            if batch := jobs.take(thread, min(self._asking, self._room(jobs))):
                return jobs, batch
            jobs.end_if_over()
        return None

    def _ring_for_more(self) -> None:
        if any(self._room(jobs) > 0 for jobs in self._served):
            self._ring()

    def _room(self, jobs: Jobs[Any]) -> int:
        """How many more threads may take of these jobs."""
        if not jobs.room:
            return 0
        busy = sum(len(one.running) for one in self._served if not one.gives_way)
        free = self._size - busy
        if jobs.gives_way:
            free = max(1, free) - sum(len(one.running) for one in self._served if one.gives_way)
        return min(free, jobs.room)

    def _ring(self) -> None:
        if self._bells:
            self._bells.pop().release()
