"""Threads that compute for the event loop. Their death is told at once, and so is a batch that hangs."""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from time import perf_counter
from typing import Any, Generic, TypeVar

from service.caller import ANYONE, Caller, deadline_problem
from service.jobs import Jobs

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageError(RuntimeError):
    """The threads of a stage died or hang; the message names the stage."""


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """One item's result, how long it queued (seconds) and how many items were computed with it."""

    result: Result
    queue_s: float
    batch_size: int


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    caller: Caller
    answer: "asyncio.Future[Batched[Result]]"
    queued_at: float
    started: float | None = None


class Workers(Generic[Item, Result]):
    """`count` threads for one stage, each of which takes what waits; they never keep the process from ending.

    `compute` takes a batch of at most `most` items, and gives one result or one exception per item or raises
    one for all. limit_s: the age of a running batch at which the stage counts as hung. `on_failure` is called
    once, on the event loop, with the reason; every caller then gets StageError, until `start` makes new
    threads. `on_abandoned`: called for each item that was dropped since its caller had gone.
    Nothing polls: an idle stage costs nothing.
    """

    def __init__(
        self,
        name: str,
        count: int,
        compute: Callable[[list[Item]], Sequence[Result | Exception]],
        *,
        most: Callable[[], int] = lambda: 1,
        limit_s: float = math.inf,
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.limit_s = limit_s
        self.failure: str | None = None
        self.on_failure: Callable[[str], None] = lambda _: None
        self._count = count
        self._compute = compute
        self._most = most
        self._on_abandoned = on_abandoned
        self._jobs: Jobs[_Job[Item, Result]] = Jobs()
        self._open: set[_Job[Item, Result]] = set()
        self._all_settled = asyncio.Event()
        self._all_settled.set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self._jobs)

    def start(self) -> None:
        """Make new threads; old ones that hang are left to themselves. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._jobs = Jobs()
        self.failure = None
        for number in range(self._count):
            Thread(target=self._work, args=(self._jobs,), name=f"{self.name}-{number}", daemon=True).start()

    async def stop(self) -> None:
        """Wait until every item is settled, and let the threads end."""
        await self._all_settled.wait()
        self._jobs.close()

    def check(self) -> None:
        """Raises: StageError when the stage has failed."""
        if self.failure is not None:
            raise StageError(self.failure)

    def fail(self, reason: str) -> None:
        """Count as failed: every caller gets StageError, and `on_failure` is called."""
        self._fail(reason, self._jobs)

    async def submit(self, item: Item, caller: Caller = ANYONE) -> Batched[Result]:
        """Compute one item; a caller cancelled before it begins costs nothing.

        Raises: StageError when the stage fails; Problem (504) past the deadline; what `compute` gave for it.
        """
        self.check()
        job = _Job[Item, Result](item, caller, self._loop.create_future(), perf_counter())
        self._open.add(job)
        self._all_settled.clear()
        self._jobs.put(job)
        self._watch(self.limit_s)
        try:
            return await job.answer
        finally:
            del job  # an error's traceback holds this frame: without it, nobody the error

    def _work(self, jobs: Jobs[_Job[Item, Result]]) -> None:
        try:
            while self._work_once(jobs):
                pass
        except BaseException as error:  # it ends the thread all the same
            self._tell(self._fail, f"{self.name}: a thread died of {type(error).__name__}", jobs)

    def _work_once(self, jobs: Jobs[_Job[Item, Result]]) -> bool:
        """Compute what waits; false when it is over. As this returns, no idle thread keeps a result."""
        batch = jobs.take(self._most(), self._begin)
        if not batch:
            return False
        results: Sequence[Result | Exception]
        try:
            results = self._compute([job.item for job in batch])
        except Exception as error:  # belongs to the callers
            results = [error] * len(batch)
        self._tell(self._settle, batch, results)
        del batch, results  # as in `submit`
        return True

    def _begin(self, job: _Job[Item, Result]) -> bool:
        """Note that a job is taken; false when nobody wants its result any more."""
        if job.answer.done():
            if job.answer.cancelled():  # as its caller was; else the stage has failed
                self._on_abandoned()
            self._tell(self._drop, job)
            return False
        if job.caller.remaining_s <= 0:
            self._tell(self._settle, [job], [deadline_problem("the picture was computed")])
            return False
        job.started = perf_counter()
        return True

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _settle(self, batch: Sequence[_Job[Item, Result]], results: Sequence[Result | Exception]) -> None:
        for job, result in zip(batch, results, strict=True):
            self._drop(job)
            if job.answer.done():
                continue
            if isinstance(result, Exception):
                job.answer.set_exception(result)
            else:
                queue_s = (job.started or job.queued_at) - job.queued_at
                job.answer.set_result(Batched(result, queue_s, len(batch)))

    def _drop(self, job: _Job[Item, Result]) -> None:
        self._open.discard(job)
        if not self._open:
            self._all_settled.set()

    def _watch(self, after_s: float) -> None:
        if self._timer is None and self._open and after_s < math.inf:
            self._timer = self._loop.call_later(after_s, self._check_age)

    def _check_age(self) -> None:
        self._timer = None
        started = [job.started for job in self._open if job.started is not None]
        age_s = perf_counter() - min(started) if started else 0.0
        if age_s >= self.limit_s:
            self._fail(f"{self.name}: a call has been running for {age_s:.1f} s", self._jobs)
        else:
            self._watch(self.limit_s - age_s)

    def _fail(self, reason: str, jobs: Jobs[_Job[Item, Result]]) -> None:
        if jobs is not self._jobs or self.failure is not None:
            return  # of threads that were given up before
        self.failure = reason
        failed = list(self._open)
        self._settle(failed, [StageError(reason) for _ in failed])
        jobs.close()
        self.on_failure(reason)


class CallWorkers(Workers[Callable[[], Any], Any]):
    """Workers whose items are calls, made one by one."""

    def __init__(self, name: str, count: int, limit_s: float = math.inf) -> None:
        super().__init__(name, count, lambda calls: [call() for call in calls], limit_s=limit_s)

    async def run(self, call: Callable[[], Result]) -> Result:
        """Call in one of the threads. Raises: as `submit`, and whatever the call raises."""
        return (await self.submit(call)).result
