"""Where one model's pictures are worked on: a turnstile, then three stages of the same threads.

Large pictures have a turnstile and stages of their own, which give way: no other waits for them.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from service.batcher import Batcher
from service.caller import Caller
from service.calls import CallWorkers
from service.crew import Crew
from service.image import LargePictureError
from service.jobs import Rank
from service.metrics import Metrics
from service.pair import Computes, Pair
from service.process import usable_cores
from service.settings import Settings
from service.tuned import Tuned
from service.turnstile import Turnstile
from service.workers import Workers

log = structlog.stdlib.get_logger("anomoe.lane")

Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = TypeVar("Answer")

LARGE = 2**20  # pixels or bytes; more take longer to decode and draw than the demo's model to compute

SHORTEST_WATCHDOG_S = 10.0
HOST_WATCHDOG_S = 60.0
LONGEST_BATCHES = 20  # a batch that takes this many times what it should hangs


class Way(NamedTuple):
    """What pictures of at most `most` bytes and pixels pass: a turnstile, then three stages."""

    most: float
    turnstile: Turnstile
    decoding: CallWorkers
    batcher: Batcher[Any, Any]
    encoding: CallWorkers

    @property
    def stages(self) -> tuple[Workers[Any, Any], ...]:
        """Whatever works for it."""
        return self.decoding, self.batcher, self.encoding


class Lane(Generic[Item, Result]):
    """One model's way to the device; it may be taken out of service while its pictures are finished."""

    def __init__(self, tuned: Tuned[Any], settings: Settings, metrics: Metrics) -> None:
        engine: Computes[Item, Result] = tuned.engine
        if tuned.shared:
            engine = Pair(engine, tuned.shared, lambda: self.depth > 0)

        def compute(items: list[Item]) -> Sequence[Result | Exception]:
            metrics.batch_size.observe(len(items))
            return engine.run(items)

        plan = tuned.plan
        hosts = host_threads(settings)
        if tuned.engine.device == "cpu":  # of which there is none to keep busy beside the threads themselves
            size = max(2, hosts, plan.parallel)
            host = device = Crew("lane", size, aside=size)
        else:
            host, device = Crew("host", hosts, aside=hosts), Crew("device", plan.parallel)
        # Each of a map's many short steps lets the interpreter go: two threads that draw wait for each other.
        drawing = max(1, hosts // 2)
        host_limit_s = settings.watchdog_s or HOST_WATCHDOG_S
        device_limit_s = watchdog_limit(settings, "engine", plan.batch_s, SHORTEST_WATCHDOG_S)

        def batcher(of: str) -> Batcher[Item, Result]:
            made = Batcher(
                compute,
                plan.batch,
                parallel=plan.parallel,
                limit_s=device_limit_s,
                name=f"engine{of}",
                crew=device,
                on_abandoned=metrics.abandoned.inc,
            )
            made.probe = tuned.engine.warm_up
            return made

        def way(most: float, width: int, batcher: Batcher[Item, Result], of: str) -> Way:
            return Way(
                most,
                Turnstile(width, metrics.abandoned.inc, plan.pace_s),
                CallWorkers(f"decode{of}", hosts, host_limit_s, host, Rank.DECODE, metrics.abandoned.inc),
                batcher,
                CallWorkers(f"encode{of}", drawing, host_limit_s, host, Rank.ENCODE, together=plan.batch),
            )

        self.plan = plan
        under_way = plan.batch * plan.parallel
        self.small = way(LARGE, hosts + under_way + math.ceil(under_way / 2), batcher(""), "")
        own_batcher = batcher("-large") if host is device else self.small.batcher
        self.large = way(math.inf, 4 * hosts, own_batcher, "-large")
        for workers in {*self.large.stages} - {*self.small.stages}:
            workers.gives_way = True
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def stages(self) -> tuple[Workers[Any, Any], ...]:
        """Whatever works for it."""
        return tuple(dict.fromkeys(self.small.stages + self.large.stages))

    @property
    def depth(self) -> int:
        """How many pictures wait, for their turn or for the device."""
        lines = {one for way in (self.small, self.large) for one in (way.turnstile, way.batcher)}
        return sum(line.depth for line in lines)

    def wait_s(self, client: str) -> float:
        """Seconds until a client's next picture would have its answer; 0 when none goes before it."""
        before_s = self.small.turnstile.wait_s(client)
        return before_s + self.plan.alone_s if before_s else 0.0

    async def through(
        self, caller: Caller, work: Callable[[Way, float], Awaitable[Answer]], effort: int = 0
    ) -> Answer:
        """Let one picture be worked on once it has its turn; gives what `work` gives.

        work: is told which way to go and the seconds waited for it; once more, for the way of large pictures,
        if it raises LargePictureError. effort: bytes or pixels that it is known to have.
        Raises: what `work` raises; Problem (504) when the deadline passes first; StageError when the model
        has failed.
        """
        began = perf_counter()

        async def go(way: Way) -> Answer:
            async with way.turnstile.turn(caller):
                way.batcher.check()
                return await work(way, perf_counter() - began)

        with self.used():
            with suppress(LargePictureError):
                if effort <= self.small.most:
                    return await go(self.small)
            return await go(self.large)

    @contextmanager
    def used(self) -> Generator[None, None, None]:
        """Keep it from being retired while the context lasts."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self._unused.wait()
        for workers in self.stages:
            await workers.stop()


def watchdog_limit(settings: Settings, stage: str, batch_s: float, shortest_s: float) -> float:
    """The age in seconds at which a batch of a stage hangs: as set, else by what the largest one takes.

    Of a limit below that a warning is logged, since the stage will be taken for hung at work.
    """
    if 0 < settings.watchdog_s <= batch_s:
        log.warning(
            "watchdog_s is shorter than a batch takes",
            stage=stage,
            watchdog_s=settings.watchdog_s,
            batch_s=round(batch_s, 3),
        )
    return settings.watchdog_s or max(shortest_s, LONGEST_BATCHES * batch_s)


def host_threads(settings: Settings) -> int:
    """Threads that decode and encode; two at least, so that one large picture does not stop the others."""
    return settings.host_threads or max(2, usable_cores())
