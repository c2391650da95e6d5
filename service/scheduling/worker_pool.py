"""Threads that work for one stage or for several, each on what is most pressing."""

from abc import ABC, abstractmethod
from collections import deque
from enum import IntEnum
from itertools import count
from math import ceil
from threading import Lock, Thread, current_thread
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")


class Priority(IntEnum):
    """What a thread that has the choice does first.

    Answers are finished; a full batch is computed; pictures are decoded before a batch that they may fill.
    """

    ENCODE = 0
    FULL_BATCH = 1
    DECODE = 2
    BATCH = 3


class StageQueue(ABC, Generic[Job]):
    """Jobs that wait for a stage, first in, first out, and how many threads of a `WorkerPool` work on some.

    All but `work` and `on_worked` needs the pool's lock, and is called with it. workers: how many threads may
    work at once. `is_background`, which is set before it is served: see `WorkerPool`.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.is_background = False
        self.waiting: deque[Job] = deque()
        self.running = 0
        self.is_closed = False

    @property
    def is_drained(self) -> bool:
        """Whether it is closed, and nothing waits or runs any more."""
        return self.is_closed and not self.waiting and not self.running

    def max_batch(self) -> int:
        """How many jobs a thread takes together."""
        return 1

    def priority(self) -> Priority:
        """Of what waits now."""
        return Priority.FULL_BATCH

    @abstractmethod
    def work(self, batch: list[Job]) -> None:
        """Do jobs that were taken together; what it raises ends the thread."""

    @abstractmethod
    def on_worked(self) -> None:
        """Learn that jobs are done and their thread is free, as it should be for what follows from them."""

    @abstractmethod
    def on_death(self, error: BaseException) -> None:
        """Learn that a thread has ended by an error."""

    @abstractmethod
    def on_drained(self) -> None:
        """Learn that it `is_drained`."""


class WorkerPool:
    """Threads, which live as long as there are stages to serve; they never keep the process from ending.

    `size` of them work at once. Jobs in the background are done by those that would be idle, or by one more,
    so that they get on, too; `reserve` threads are added, since no other job waits for those that such jobs
    keep busy. Whoever worked last is woken first: a single client is served by one thread all the way, whose
    memory is in the caches. Nothing polls: an idle pool costs nothing.
    """

    def __init__(self, name: str, size: int, reserve: int = 0) -> None:
        self._name, self._size, self._threads = name, size, size + reserve
        self._lock = Lock()
        self._served: list[StageQueue[Any]] = []
        self._work_of: dict[Thread, StageQueue[Any] | None] = {}  # the pool's threads; None when idle
        self._busy = {False: 0, True: 0}  # how many work, in the foreground and in the background
        self._idle = 0  # those that sleep, and those that are about to look for work
        self._sleeping: list[Lock] = []
        self._numbers = count()

    def serve(self, stage: StageQueue[Any]) -> None:
        """Work on its jobs, too; makes the threads that are missing."""
        with self._lock:
            stage.is_closed = False
            self._served.append(stage)
            names = [f"{self._name}-{next(self._numbers)}" for _ in range(self._threads - len(self._work_of))]
            new = [Thread(target=self._run, name=name, daemon=True) for name in names]
            self._work_of.update(dict.fromkeys(new))
            self._idle += len(new)
        for thread in new:
            thread.start()

    def put(self, stage: StageQueue[Job], job: Job) -> bool:
        """Leave a job, and see that a thread comes for it; false when the stage is closed."""
        with self._lock:
            if stage.is_closed:
                return False
            stage.waiting.append(job)
            if self._idle == len(self._sleeping) and self._room(stage) > 0:  # else one comes by anyway
                self._wake_one()
            return True

    def remove(self, stage: StageQueue[Job], job: Job) -> bool:
        """Take a job out of those that wait, undone; false when it does not wait."""
        with self._lock:
            if job not in stage.waiting:
                return False
            stage.waiting.remove(job)
            if stage.is_drained:
                stage.on_drained()
            return True

    def close(self, stage: StageQueue[Any]) -> None:
        """Take no more jobs of a stage; those that wait are done."""
        with self._lock:
            stage.is_closed = True
            if stage.is_drained:
                stage.on_drained()

    def abandon(self, stage: StageQueue[Any]) -> None:
        """Serve a stage no longer: drop what waits, and leave threads that still work on it to themselves."""
        with self._lock:
            stage.is_closed = True
            stage.waiting.clear()
            self._served = [served for served in self._served if served is not stage]
            self._work_of = {thread: of for thread, of in self._work_of.items() if of is not stage}
            self._busy[stage.is_background] -= stage.running
            stage.running = 0
            self._wake_for_more()
            while self._sleeping and not self._served:
                self._wake_one()

    def _run(self) -> None:
        while self._work_once(current_thread()):
            pass

    def _work_once(self, thread: Thread) -> bool:
        """Do what is most pressing; false when it is over. As this returns, no idle thread keeps a job."""
        taken = self._take(thread)
        if taken is None:
            return False
        stage, batch = taken
        try:
            stage.work(batch)
        except BaseException as error:  # it ends the thread all the same
            self._finish(thread, stage, error)
            return False
        self._finish(thread, stage)
        stage.on_worked()
        return True

    def _take(self, thread: Thread) -> tuple[StageQueue[Any], list[Any]] | None:
        """A stage and jobs of it, once there are some; None when the thread is not needed any more."""
        bell = Lock()
        while True:
            bell.acquire()
            with self._lock:
                if thread not in self._work_of:
                    return None
                if not self._served:
                    self._idle -= 1
                    del self._work_of[thread]
                    return None
                if stage := self._most_pressing():
                    batch = self._begin(thread, stage)
                    self._wake_for_more()
                    return stage, batch
                self._sleeping.append(bell)

    def _most_pressing(self) -> StageQueue[Any] | None:
        """Of the stages that have jobs, and room for one more thread."""
        found, first = None, (True, len(Priority))
        for stage in self._served:
            if stage.waiting and self._room(stage) > 0:
                place = stage.is_background, stage.priority()
                if place < first:
                    found, first = stage, place
        return found

    def _begin(self, thread: Thread, stage: StageQueue[Job]) -> list[Job]:
        """The oldest jobs of a stage; something is left for each thread that may take some now, too."""
        sharing = min(self._idle, self._room(stage))
        size = min(stage.max_batch(), ceil(len(stage.waiting) / sharing))
        batch = [stage.waiting.popleft() for _ in range(size)]
        self._work_of[thread] = stage
        self._idle -= 1
        self._busy[stage.is_background] += 1
        stage.running += 1
        return batch

    def _finish(self, thread: Thread, stage: StageQueue[Any], death: BaseException | None = None) -> None:
        with self._lock:
            if self._work_of.get(thread) is not stage:  # which has been abandoned
                return
            self._busy[stage.is_background] -= 1
            stage.running -= 1
            if death:
                del self._work_of[thread]
                stage.on_death(death)
            else:
                self._work_of[thread] = None
                self._idle += 1
            if stage.is_drained:
                stage.on_drained()

    def _room(self, stage: StageQueue[Any]) -> int:
        """How many more threads may work on a stage."""
        free = self._size - self._busy[False]
        if stage.is_background:
            free = max(1, free) - self._busy[True]
        return min(free, stage.workers - stage.running)

    def _wake_for_more(self) -> None:
        if self._sleeping and self._most_pressing():
            self._wake_one()

    def _wake_one(self) -> None:
        if self._sleeping:
            self._sleeping.pop().release()
