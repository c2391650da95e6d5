"""Where one model's pictures are worked on: a fair queue, then three stages of the same threads.

Large pictures have a queue and stages of their own, which give way: no other waits for them.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from export.contract.manifest import InputSpec
from service.images.decode import LargePictureError, Opened, open_picture
from service.inference.isolation import IsolatedBatches
from service.metrics import Metrics
from service.process import usable_cores
from service.scheduling.batcher import Batcher, CallStage
from service.scheduling.caller import Caller
from service.scheduling.fair_queue import FairQueue
from service.scheduling.stage import Stage, StageResult
from service.scheduling.worker_pool import Priority, WorkerPool
from service.settings import Settings
from service.tracing import Timed, tracing
from service.tuning.dual_engine import Computes, DualEngine
from service.tuning.search import TunedEngine

log = structlog.stdlib.get_logger("anomoe.pipeline")

Item = TypeVar("Item")
Result = TypeVar("Result", bound=Timed)
Encoded = TypeVar("Encoded")

LARGE = 2**20  # pixels or bytes; more take longer to decode and draw than the demo's model to compute

SHORTEST_WATCHDOG_S = 10.0
HOST_WATCHDOG_S = 60.0
LONGEST_BATCHES = 20  # a batch that takes this many times what it should hangs


class SizeClass(NamedTuple):
    """What pictures of at most `limit` bytes and pixels pass: a queue, then three stages."""

    limit: float
    queue: FairQueue
    decoding: CallStage
    batcher: Batcher[Any, Any]
    encoding: CallStage

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return self.decoding, self.batcher, self.encoding


class ModelPipeline(Generic[Item, Result]):
    """One model's way to the device; it may be taken out of service while its pictures are finished."""

    def __init__(self, tuned: TunedEngine[Any], settings: Settings, metrics: Metrics) -> None:
        self.plan = plan = tuned.plan
        self.max_pixels = settings.max_pixels
        hosts = host_threads(settings)
        under_way = plan.batch * plan.parallel
        if tuned.engine.device == "cpu":  # of which there is none to keep busy beside the threads themselves
            size = max(2, hosts, plan.parallel)
            host = device = WorkerPool("worker", size, reserve=size)
        else:
            host, device = WorkerPool("host", hosts, reserve=hosts), WorkerPool("device", plan.parallel)
        engine: Computes[Item, Result] = tuned.engine
        if tuned.shared:
            engine = DualEngine(engine, tuned.shared, lambda: self.depth > 0)

        def compute(items: list[Item]) -> Sequence[Result | Exception]:
            metrics.batch_size.observe(len(items))
            return engine.run(items)

        batch_limit_s = watchdog_limit(settings, "engine", plan.batch_s, SHORTEST_WATCHDOG_S)

        def batcher(of: str) -> Batcher[Item, Result]:
            made = Batcher(
                IsolatedBatches(compute, plan.batch), plan.parallel, f"engine{of}", device, batch_limit_s
            )
            made.probe = tuned.engine.warm_up
            return made

        def size_class(limit: float, width: int, batcher: Batcher[Item, Result], of: str) -> SizeClass:
            limit_s = settings.watchdog_s or HOST_WATCHDOG_S
            drawing = max(1, hosts // 2)  # more wait for the interpreter, which each short step lets go
            decoding = CallStage(f"decode{of}", hosts, host, limit_s)
            encoding = CallStage(f"encode{of}", drawing, host, limit_s, Priority.ENCODE, plan.batch)
            for stage in (decoding, batcher):
                stage.on_abandoned = metrics.abandoned.inc
            queue = FairQueue(width, metrics.abandoned.inc, plan.pace_s)
            return SizeClass(limit, queue, decoding, batcher, encoding)

        self.small = size_class(LARGE, hosts + under_way + math.ceil(under_way / 2), batcher(""), "")
        own_batcher = batcher("-large") if host is device else self.small.batcher
        self.large = size_class(math.inf, 4 * hosts, own_batcher, "-large")
        for stage in {*self.large.stages} - {*self.small.stages}:
            stage.is_background = True
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return tuple(dict.fromkeys(self.small.stages + self.large.stages))

    @property
    def depth(self) -> int:
        """How many pictures wait, for their turn or for the device."""
        waiting = self.small.queue, self.large.queue, *{self.small.batcher, self.large.batcher}
        return sum([one.depth for one in waiting])

    def wait_s(self, client: str) -> float:
        """Seconds until a client's next picture would have its answer; 0 when none goes before it."""
        before_s = self.small.queue.wait_s(client)
        return before_s + self.plan.alone_s if before_s else 0.0

    @asynccontextmanager
    async def slot(self, caller: Caller, effort: int = 0) -> AsyncGenerator["Slot[Item, Result]", None]:
        """Let one picture be worked on once it has its turn, while the context lasts.

        effort: bytes or pixels that it is known to have. Raises: Problem (504) when the deadline passes
        first; StageError when the model has failed.
        """
        slot = Slot(self, caller, self.small if effort <= self.small.limit else self.large)
        is_answered = False
        with self.used():
            try:
                await slot.enter()
                yield slot
                is_answered = True
            finally:
                slot.leave(is_answered)

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
        for stage in self.stages:
            await stage.stop()


class Slot(Generic[Item, Result]):
    """One picture's place among those that are worked on, and the stages that it passes, in order.

    Each stage raises what is wrong with the picture, Problem (504) past the deadline, and StageError when it
    fails.
    """

    def __init__(self, pipeline: ModelPipeline[Item, Result], caller: Caller, size: SizeClass) -> None:
        self._pipeline, self._caller, self._size = pipeline, caller, size
        self._entered: float | None = None

    async def enter(self) -> None:
        """Wait for the turn. Raises: as `ModelPipeline.slot`."""
        with tracing.span("turn"):
            await self._size.queue.acquire(self._caller)
        self._entered = perf_counter()
        self._size.batcher.check()

    def leave(self, is_answered: bool = False) -> None:
        """Let the next one enter, unless that was done."""
        if self._entered is not None:
            self._size.queue.release(self._entered if is_answered else None)
            self._entered = None

    async def decode(self, data: bytes, spec: InputSpec) -> StageResult[Opened]:
        """The picture at model size; one that turns out to be large waits for its turn as such first."""
        while True:  # twice at most: of what is large there is no limit
            with suppress(LargePictureError):
                call = partial(open_picture, data, spec, self._pipeline.max_pixels, self._size.limit)
                with tracing.span("decode"):
                    return await self._size.decoding.submit(call, self._caller)
            self.leave()
            self._size = self._pipeline.large
            await self.enter()

    async def compute(self, item: Item) -> StageResult[Result]:
        """What the model makes of it, in a batch with others."""
        with tracing.span("compute"):
            computed = await self._size.batcher.submit(item, self._caller)
            tracing.parts(computed.result)
        return computed

    async def encode(self, call: Callable[[], Encoded]) -> StageResult[Encoded]:
        """What a call gives, which makes the parts of the answer that take long."""
        with tracing.span("encode"):
            return await self._size.encoding.submit(call, self._caller)


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
