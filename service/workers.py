"""Threads that compute for the event loop. Their death is told at once, and so is a call that hangs."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

from service.jobs import Jobs

Result = TypeVar("Result")


class StageError(RuntimeError):
    """The threads of a stage died or hang; the message names the stage."""


@dataclass(eq=False)
class _Job:
    call: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    started: float | None = None


_Jobs = Jobs["_Job | None"]


class Workers:
    """`count` threads for one stage; they never keep the process from ending.

    limit_s: the age of a running call at which the stage counts as hung. `on_failure` is called once, on the
    event loop, with the reason; every call under way then gets StageError, until `start` makes new threads.
    Nothing polls: an idle stage costs nothing.
    """

    def __init__(self, name: str, count: int, limit_s: float = math.inf) -> None:
        self.name = name
        self.count = count
        self.limit_s = limit_s
        self.failure: str | None = None
        self.on_failure: Callable[[str], None] = lambda _: None
        self._jobs: _Jobs = Jobs()
        self._open: set[_Job] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Make new threads; old ones that hang are left to themselves. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._jobs = Jobs()
        self.failure = None
        for number in range(self.count):
            Thread(target=self._work, args=(self._jobs,), name=f"{self.name}-{number}", daemon=True).start()

    def stop(self) -> None:
        """Let the threads end after what is queued."""
        for _ in range(self.count):
            self._jobs.put(None)

    def check(self) -> None:
        """Raises: StageError when the stage has failed."""
        if self.failure is not None:
            raise StageError(self.failure)

    def fail(self, reason: str) -> None:
        """Count as failed: every call under way gets StageError, and `on_failure` is called."""
        self._fail(reason, self._jobs)

    async def run(self, call: Callable[[], Result]) -> Result:
        """Call in one of the threads; a caller cancelled before it begins costs nothing.

        Raises: StageError when the stage fails; whatever the call raises.
        """
        self.check()
        job = _Job(call, self._loop.create_future())
        self._open.add(job)
        self._jobs.put(job)
        self._watch(self.limit_s)
        try:
            return await job.answer
        finally:
            del job  # an error's traceback holds this frame: without it, nobody the error

    def _work(self, jobs: _Jobs) -> None:
        try:
            while self._work_once(jobs):
                pass
        except BaseException as error:  # it ends the thread all the same
            self._tell(self._fail, f"{self.name}: a thread died of {type(error).__name__}", jobs)

    def _work_once(self, jobs: _Jobs) -> bool:
        """Do the next job; false when there are no more. As this returns, no idle thread keeps a result."""
        job = jobs.get()
        if job is None:
            return False
        job.started = perf_counter()
        try:
            result = None if job.answer.cancelled() else job.call()
            self._tell(self._settle, job, result, None)
        except Exception as error:  # belongs to the caller
            self._tell(self._settle, job, None, error)
        finally:
            del job  # as in `run`
        return True

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _settle(self, job: _Job, result: object, error: Exception | None) -> None:
        self._open.discard(job)
        if job.answer.done():
            return
        if error is None:
            job.answer.set_result(result)
        else:
            job.answer.set_exception(error)

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

    def _fail(self, reason: str, jobs: _Jobs) -> None:
        if jobs is not self._jobs or self.failure is not None:
            return  # of threads that were given up before
        self.failure = reason
        failed, self._open = self._open, set()
        for job in failed:
            self._settle(job, None, StageError(reason))
        self.stop()
        self.on_failure(reason)
