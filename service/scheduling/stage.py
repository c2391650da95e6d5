"""What threads compute for the event loop. Their death is told at once, and so is a batch that hangs."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

from service.scheduling.caller import ANYONE, Caller, deadline_problem
from service.scheduling.futures import result_of
from service.scheduling.worker_pool import StageQueue, WorkerPool

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageError(RuntimeError):
    """The threads of a stage died or hang; the message names the stage."""


@dataclass(frozen=True)
class StageResult(Generic[Result]):
    """One item's result, and how many items were computed with it.

    queue_s, took_s: how long it waited, and then how long all of them took, in seconds.
    """

    result: Result
    queue_s: float
    batch_size: int
    took_s: float


Answer = asyncio.Future[Any]
Outcome = tuple[Answer, StageResult[Any] | Exception]


@dataclass(eq=False)
class _Job(Generic[Item]):
    item: Item
    caller: Caller
    queued_at: float
    started: float = math.inf


class Stage(StageQueue[_Job[Item]], Generic[Item, Result]):
    """Items that wait to be computed by threads of a pool, `workers` of them at once.

    `compute` takes a batch, and gives one result or one exception per item or raises one for all. pool:
    threads that work for other stages, too; without one it has `workers` of its own. limit_s: the age of a
    running batch at which the stage counts as hung. `on_failure` is called once, on the event loop, with the
    reason; every caller then gets StageError, until `start` makes new threads. `on_abandoned` is called for
    each item that was dropped since its caller had gone. `probe` is called by threads that were made anew:
    when it raises, they do not work either.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        compute: Callable[[list[Item]], Sequence[Result | Exception]],
        pool: WorkerPool | None = None,
        limit_s: float = math.inf,
    ) -> None:
        super().__init__(workers)
        self.name = name
        self.limit_s = limit_s
        self.failure: str | None = None
        self.on_failure: Callable[[str], None] = lambda _: None
        self.on_abandoned: Callable[[], None] = lambda: None
        self.probe: Callable[[], object] = lambda: None
        self._pool = pool or WorkerPool(name, workers)
        self._compute = compute
        # What waits or runs. Threads, too, take from it. Jobs know no answer: errors hold what threads held.
        self._open: dict[_Job[Item], Answer] = {}
        self._outcomes: deque[Outcome] = deque()  # which threads leave for the event loop
        self._drained = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._starts = 0

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self.waiting)

    def start(self) -> None:
        """Have threads, new ones for those that died or hang. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._starts += 1
        self.failure = None
        self._drained.clear()
        self._pool.serve(self)

    async def stop(self) -> None:
        """Refuse new items, finish those that wait, and let the threads go."""
        self._pool.close(self)
        await self._drained.wait()
        self._pool.abandon(self)
        if self._timer is not None:  # which would hold the stage, and the model behind it
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Raises: StageError when the stage has failed."""
        if self.failure is not None:
            raise StageError(self.failure)

    def fail(self, reason: str) -> None:
        """Count as failed: every caller gets StageError, and `on_failure` is called."""
        self._fail(reason, self._starts)

    async def submit(self, item: Item, caller: Caller = ANYONE) -> StageResult[Result]:
        """Compute one item; a caller cancelled before it begins costs nothing.

        Raises: StageError when the stage fails; Problem (504) past the deadline; what `compute` gave for it.
        """
        job = _Job(item, caller, perf_counter())
        return await result_of(self._put(job), on_cancel=lambda _: self._drop(job))

    def work(self, batch: list[_Job[Item]]) -> None:
        """Compute a batch, less what nobody wants any more."""
        wanted = [job for job in batch if self._is_wanted(job)]
        if wanted:
            self._note(wanted, self._results([job.item for job in wanted]))

    def on_worked(self) -> None:
        """Tell the callers."""
        self._call(self._settle)

    def on_death(self, error: BaseException) -> None:
        """Fail, for the threads that there are since `start`."""
        self._call(self._fail, f"{self.name}: a thread died of {type(error).__name__}", self._starts)

    def on_drained(self) -> None:
        """Let `stop` go on."""
        self._call(self._drained.set)

    def _put(self, job: _Job[Item]) -> Answer:
        answer = self._open[job] = self._loop.create_future()
        if not self._pool.put(self, job):
            del self._open[job]
            raise StageError(self.failure or f"{self.name}: the service is stopping")
        if self._timer is None:
            self._watch(self.limit_s)
        return answer

    def _drop(self, job: _Job[Item]) -> None:
        """Of a caller who has gone: it may hold a large picture."""
        if self._pool.remove(self, job):
            del self._open[job]
            self.on_abandoned()

    def _is_wanted(self, job: _Job[Item]) -> bool:
        answer = self._open.get(job)
        if answer is None or answer.done():  # the stage has failed, or the caller has gone
            if self._open.pop(job, None):
                self.on_abandoned()
            return False
        job.started = perf_counter()
        is_in_time = job.started < job.caller.deadline
        if not is_in_time:
            problem = deadline_problem(f"the stage {self.name} began", self.name.removesuffix("-large"))
            self._note([job], [problem])
            self._call(self._settle)  # before the others are computed
        return is_in_time

    def _results(self, items: list[Item]) -> Sequence[Result | Exception]:
        try:
            return self._compute(items)
        except Exception as error:  # belongs to the callers
            return [error] * len(items)

    def _note(self, jobs: Sequence[_Job[Item]], results: Sequence[Result | Exception]) -> None:
        ended = perf_counter()
        for job, result in zip(jobs, results, strict=True):
            if answer := self._open.pop(job, None):
                is_error = isinstance(result, Exception)
                times = job.started - job.queued_at, len(jobs), ended - job.started
                self._outcomes.append((answer, result if is_error else StageResult(result, *times)))

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        """On the event loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _watch(self, after_s: float) -> None:
        if self._open and after_s < math.inf:
            self._timer = self._loop.call_later(after_s, self._check_age)

    def _check_age(self) -> None:
        self._timer = None
        started = min((job.started for job in list(self._open)), default=math.inf)
        age_s = max(0.0, perf_counter() - started)
        if age_s >= self.limit_s:
            self._fail(f"{self.name}: a call has been running for {age_s:.1f} s", self._starts)
        else:
            self._watch(self.limit_s - age_s)

    def _fail(self, reason: str, starts: int) -> None:
        if starts != self._starts or self.failure is not None:
            return  # of threads that were given up before
        self.failure = reason
        self._pool.abandon(self)
        self._outcomes.extend((answer, StageError(reason)) for answer in list(self._open.values()))
        self._open.clear()
        self._settle()
        self._drained.set()
        self.on_failure(reason)

    def _settle(self) -> None:
        while self._outcomes:
            answer, outcome = self._outcomes.popleft()
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
