"""One picture's way: bytes -> permit -> decode -> batcher -> decide -> encode -> answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TypeVar

import structlog

from export.contract.manifest import InputSpec
from service.answer import Trace, answer_of, draw, timings
from service.backends.base import GraphError
from service.batcher import Batched, Batcher
from service.decide import decide
from service.engine import Picture
from service.errors import Kind, Problem, ProblemAnswer, problem_answer
from service.image import Opened, open_picture
from service.metrics import Metrics
from service.models import Models
from service.permits import Permits
from service.schemas import DetectAnswer, DetectParameters, MapParameters
from service.settings import Settings

HOST_THREADS = 4  # Pillow and numpy let other threads run while they decode, resize and encode

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.stdlib.get_logger("anomoe.detect")


class Detector:
    """Answers pictures with the models; its permits bound what is worked on at once."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.is_ready = False
        self.permits = Permits(settings.queue_size)
        self._threads = ThreadPoolExecutor(HOST_THREADS, thread_name_prefix="host")
        metrics.queue_depth.set_function(models.queue_depth)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Compute while the context lasts; at its end, finish what was admitted."""
        self.models.start()
        self._set_ready(True)
        try:
            yield
        finally:
            self._set_ready(False)
            await self.models.stop()
            self._threads.shutdown()

    async def detect(self, data: bytes, parameters: DetectParameters, trace: Trace) -> DetectAnswer:
        """The verdict on one encoded picture.

        Raises: Problem (400, 404, 413, 415, 422, 429, 500 when the model fails, 503).
        """
        model = self.models.choose(parameters.category)
        manifest = model.bundle.manifest
        with self.permits.hold():
            clock = [perf_counter()]
            opened = await self.open(data, manifest.input, parameters)
            clock.append(perf_counter())
            batched = await compute(model.batcher, Picture(opened.pixels, parameters.category))
            decision = decide(batched.result, parameters.alpha or manifest.calibration.alpha)
            clock.append(perf_counter())
            drawn = await self.on_host(
                lambda: draw(opened, batched.result, decision, parameters, manifest.input)
            )
        timings_ms = timings(clock, batched.queue_s, batched.result.timings_ms, trace.started)
        self.metrics.count_picture(decision, batched.result, timings_ms)
        return answer_of(model, trace, decision, batched, drawn, timings_ms)

    async def detect_all(
        self, pictures: Sequence[bytes], parameters: DetectParameters, trace: Trace
    ) -> list[DetectAnswer | ProblemAnswer]:
        """Each picture's verdict or problem, in order; one request works on `max_batch` pictures at once.

        Raises: Problem (404) for an unknown category, which would fail every picture.
        """
        self.models.choose(parameters.category)
        slots = asyncio.Semaphore(self.settings.max_batch)

        async def one(data: bytes) -> DetectAnswer | ProblemAnswer:
            async with slots:
                try:
                    return await self.detect(data, parameters, trace)
                except Problem as problem:
                    self.metrics.count_problem(problem)
                    return problem_answer(problem, trace.request_id)

        return await asyncio.gather(*map(one, pictures))

    async def open(self, data: bytes, spec: InputSpec, parameters: MapParameters) -> Opened:
        """Decode a picture for a model, off the event loop; an overlay needs the whole of it later.

        Raises: Problem as `open_picture`.
        """
        keep_image = parameters.map == "overlay"
        return await self.on_host(lambda: open_picture(data, spec, self.settings.max_pixels, keep_image))

    async def on_host(self, work: Callable[[], Result]) -> Result:
        """Do work of the processor in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _set_ready(self, is_ready: bool) -> None:
        self.is_ready = is_ready
        self.metrics.ready.set(is_ready)


async def compute(batcher: Batcher[Item, Result], item: Item) -> Batched[Result]:
    """One item's way through a model.

    Raises: Problem (500 when the model fails, 503); what else the model's batcher gives for it.
    """
    try:
        return await batcher.submit(item)
    except GraphError as error:
        log.exception("model failed")
        raise Problem(Kind.INTERNAL, "the model failed on this picture, the log has more") from error
