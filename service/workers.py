"""What threads compute for the event loop. Their death is told at once, and so is a batch that hangs."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

from service.caller import ANYONE, Caller, deadline_problem
from service.crew import Crew
from service.jobs import Jobs, Rank

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageError(RuntimeError):
    """The threads of a stage died or hang; the message names the stage."""


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """One item's result, and how many items were computed with it.

    queue_s, took_s: how long it waited, and then how long all of them took, in seconds.
    """

    result: Result
    queue_s: float
    batch_size: int
    took_s: float


def _as_it_is(batched: Batched[Any]) -> object:
    return batched


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    caller: Caller
    answer: "asyncio.Future[Any]"
    hand_on: Callable[[Batched[Result]], object]
    queued_at: float
    started: float | None = None

    def told(self, result: Result | Exception, batch_size: int) -> object:
        """What its caller is told of a result: an exception, what came of it, or None: not yet."""
        if isinstance(result, Exception):
            return result
        ended = perf_counter()
        started = self.started or ended
        try:
            return self.hand_on(Batched(result, started - self.queued_at, batch_size, ended - started))
        except Exception as error:  # belongs to the caller
            return error
        finally:
            del self, result  # an error's traceback holds this frame: without them, nobody the error


class Workers(Generic[Item, Result]):
    """One stage: what waits for it is taken by threads of a crew, `count` of them at once.

    `compute` takes a batch of at most `most()` items, and gives one result or one exception per item or
    raises one for all. crew: threads that work for other stages, too; without one it has `count` of its own.
    limit_s: the age of a running batch at which the stage counts as hung. `on_failure` is called once, on the
    event loop, with the reason; every caller then gets StageError, until `start` makes new threads.
    `on_abandoned`: called for each item that was dropped since its caller had gone. `probe` is called by
    threads that were made anew: when it raises, they do not work either. gives_way: see `Crew`.
    """

    def __init__(
        self,
        name: str,
        count: int,
        compute: Callable[[list[Item]], Sequence[Result | Exception]],
        *,
        crew: Crew | None = None,
        limit_s: float = math.inf,
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.limit_s = limit_s
        self.failure: str | None = None
        self.on_failure: Callable[[str], None] = lambda _: None
        self.probe: Callable[[], object] = lambda: None
        self.gives_way = False
        self._crew = crew or Crew(name, count)
        self._count = count
        self._compute = compute
        self._on_abandoned = on_abandoned
        self._jobs = self._new_jobs()
        self._open: set[_Job[Item, Result]] = set()  # threads, too, add to it and take from it
        self._ended = asyncio.Event()
        self._ended.set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self._jobs)

    def most(self) -> int:
        """How many items are computed together."""
        return 1

    def rank(self, waiting: int, oldest_s: float) -> Rank:
        """Of so many items that wait, the oldest for so many seconds."""
        del waiting, oldest_s
        return Rank.FULL_BATCH

    def start(self) -> None:
        """Have threads, new ones for those that died or hang. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._jobs = self._new_jobs()
        self.failure = None
        self._ended.clear()
        self._crew.serve(self._jobs)

    async def stop(self) -> None:
        """Refuse new items, finish those that wait, and let the threads go."""
        self._crew.close(self._jobs)
        await self._ended.wait()
        self._crew.leave(self._jobs)
        if self._timer is not None:  # which would hold the stage, and the model behind it
            self._timer.cancel()
            self._timer = None

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
        answer: asyncio.Future[Batched[Result]] = self._loop.create_future()
        try:
            self.put(item, caller, answer)
            return await answer
        except asyncio.CancelledError:
            self.forget(answer)
            raise
        finally:
            del answer  # as in `_Job.told`

    def put(
        self,
        item: Item,
        caller: Caller,
        answer: "asyncio.Future[Any]",
        hand_on: Callable[[Batched[Result]], object] = _as_it_is,
    ) -> None:
        """Leave an item for the threads; any thread may. What comes of it goes into `answer`.

        hand_on: makes what goes into `answer` of the result, in the thread that computed it; None if another
        stage has taken the result. Raises: StageError when the stage has failed or stops.
        """
        job = _Job(item, caller, answer, hand_on, perf_counter())
        if answer.cancelled():
            self._on_abandoned()
            return
        self._open.add(job)
        if not self._crew.put(self._jobs, job):
            self._open.discard(job)
            raise StageError(self.failure or f"{self.name}: the service is stopping")
        if self._timer is None and self.limit_s < math.inf:
            self._tell(self._watch, self.limit_s)

    def forget(self, answer: "asyncio.Future[Any]") -> None:
        """Drop what waits for an answer that was cancelled: it may hold a large picture."""
        for job in self._crew.drop(self._jobs, lambda job: job.answer is answer):
            self._begin(job)

    def _new_jobs(self) -> Jobs[_Job[Item, Result]]:
        jobs: Jobs[_Job[Item, Result]] = Jobs(
            self._work,
            at_once=self._count,
            most=self.most,
            is_wanted=self._begin,
            rank=lambda jobs: self.rank(len(jobs), perf_counter() - jobs.waiting[0].queued_at),
            on_death=lambda error: self._tell(
                self._fail, f"{self.name}: a thread died of {type(error).__name__}", jobs
            ),
            on_end=lambda: self._tell(self._end, jobs),
        )
        jobs.gives_way = self.gives_way
        return jobs

    def _work(self, batch: list[_Job[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = self._compute([job.item for job in batch])
        except Exception as error:  # belongs to the callers
            results = [error] * len(batch)
        self._give(batch, results)
        del batch, results  # as in `_Job.told`

    def _give(self, batch: Sequence[_Job[Item, Result]], results: Sequence[Result | Exception]) -> None:
        """Hand the results on; what no other stage has taken is told to the event loop."""
        told: dict[asyncio.Future[Any], object] = {}
        for job, result in zip(batch, results, strict=True):
            told[job.answer] = job.told(result, len(batch))
            del job, result  # as in `_Job.told`
        self._open.difference_update(batch)
        if any(one is not None for one in told.values()):
            self._tell(_settle, told)
        del batch, results, told

    def _begin(self, job: _Job[Item, Result]) -> bool:
        """Note that a job is taken; false when nobody wants its result any more."""
        if job.answer.done():
            if job.answer.cancelled():  # as its caller was; else the stage has failed
                self._on_abandoned()
            self._open.discard(job)
            return False
        if job.caller.remaining_s <= 0:
            self._give([job], [deadline_problem(f"the stage {self.name} began")])
            return False
        job.started = perf_counter()
        return True

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _end(self, jobs: Jobs[_Job[Item, Result]]) -> None:
        if jobs is self._jobs:
            self._ended.set()

    def _watch(self, after_s: float) -> None:
        if self._timer is None and self._open and after_s < math.inf:
            self._timer = self._loop.call_later(after_s, self._check_age)

    def _check_age(self) -> None:
        self._timer = None
        started = [job.started for job in list(self._open) if job.started is not None]
        age_s = perf_counter() - min(started) if started else 0.0
        if age_s >= self.limit_s:
            self._fail(f"{self.name}: a call has been running for {age_s:.1f} s", self._jobs)
        else:
            self._watch(self.limit_s - age_s)

    def _fail(self, reason: str, jobs: Jobs[_Job[Item, Result]]) -> None:
        if jobs is not self._jobs or self.failure is not None:
            return  # of threads that were given up before
        self.failure = reason
        self._crew.leave(jobs)
        _settle({job.answer: StageError(reason) for job in list(self._open)})
        self._open.clear()
        self._ended.set()
        self.on_failure(reason)


def _settle(told: Mapping["asyncio.Future[Any]", object]) -> None:
    for answer, what in told.items():
        if what is None or answer.done():
            continue
        if isinstance(what, Exception):
            answer.set_exception(what)
        else:
            answer.set_result(what)
