"""What waits for a stage, and how many threads work on it."""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from math import ceil
from threading import Thread
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Rank(IntEnum):
    """What a thread that has the choice does first.

    Answers are finished; a full batch is computed; pictures are decoded before a batch that they may fill.
    """

    ENCODE = 0
    FULL_BATCH = 1
    DECODE = 2
    BATCH = 3


class Jobs(Generic[Job]):
    """First in, first out. It belongs to a `Crew`: all but its length needs the crew's lock.

    work: does a batch of jobs; what it raises ends the thread and is told to on_death. at_once: how many
    threads may work. most: jobs they take together. is_wanted: false drops a job. rank: of what waits now.
    on_end: called once when it is closed and nothing waits or runs any more. gives_way: see `Crew`.
    """

    def __init__(
        self,
        work: Callable[[list[Job]], None],
        *,
        at_once: int = 1,
        most: Callable[[], int] = lambda: 1,
        is_wanted: Callable[[Job], bool] = lambda _: True,
        rank: Callable[["Jobs[Job]"], Rank] = lambda _: Rank.FULL_BATCH,
        on_death: Callable[[BaseException], None] = lambda _: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.work, self.on_death = work, on_death
        self.waiting: deque[Job] = deque()
        self.running: set[Thread] = set()
        self.is_closed = False
        self.gives_way = False
        self._at_once, self._most, self._is_wanted = at_once, most, is_wanted
        self._rank, self._on_end = rank, on_end

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self.waiting)

    @property
    def room(self) -> int:
        """How many more threads may take some."""
        return self._at_once - len(self.running) if self.waiting else 0

    @property
    def rank(self) -> Rank:
        """How pressing it is."""
        return self._rank(self)

    def take(self, thread: Thread, sharing: int) -> list[Job]:
        """The oldest jobs that are wanted, for a thread; nothing when none is.

        sharing: how many threads may take some now, this one too; something is left for each.
        """
        size = min(self._most(), ceil(len(self.waiting) / sharing))
        taken: list[Job] = []
        while self.waiting and len(taken) < size:
            job = self.waiting.popleft()
            if self._is_wanted(job):
                taken.append(job)
        if taken:
            self.running.add(thread)
        return taken

    def end_if_over(self) -> None:
        """Tell when it is closed and empty."""
        if self.is_closed and not self.waiting and not self.running:
            self._on_end()
