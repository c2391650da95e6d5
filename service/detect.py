"""One picture's way: turn -> decode -> batcher -> decide -> encode -> answer."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import Event
from time import perf_counter

import structlog

from export.contract.bundle import Bundle, BundleError
from service.answer import (
    MOST_MAP_BYTES,
    Drawn,
    Trace,
    answer_of,
    draw,
    size_of_map,
    timings,
    too_large_maps,
)
from service.backends.base import GraphError
from service.caller import Caller
from service.decide import Decision, decide
from service.engine import Outcome, Picture
from service.errors import Kind, Problem, ProblemAnswer, problem_answer, unexpected
from service.health import Health
from service.image import Opened, announced_effort, open_picture
from service.lane import Way
from service.metrics import Metrics
from service.models import AnyModel, Models, load_models
from service.permits import Permits
from service.relay import Step, calling, relay
from service.resting import Resting, StoppedError
from service.schemas import DetectAnswer, DetectParameters, PictureParameters
from service.settings import Settings
from service.tidying import tidy
from service.workers import StageError

log = structlog.stdlib.get_logger("anomoe.detect")


class Detector:
    """Answers pictures with the models; requests that hold one of its permits are worked on."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.health = Health(metrics)
        self.permits = Permits(settings.queue_size, settings.max_in_flight_bytes)
        self._reloading = asyncio.Lock()
        self._leaving = Event()
        metrics.queue_depth.set_function(models.queue_depth)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Compute while the context lasts; at its end, unless it is cut off, finish what was admitted."""
        self._begin(self.models.all)
        self.models.publish(self.metrics)
        self.health.enter(None)
        yield
        self.health.enter("stopping")
        await self._end(self.models.all)

    async def detect(
        self, data: bytes, parameters: DetectParameters, trace: Trace, held_up_s: float = 0
    ) -> DetectAnswer:
        """The verdict on one encoded picture; it was held up before, which counts as waiting.

        Raises: Problem (400, 404, 413, 415, 422, 500 when the model fails, 503, 504).
        """
        model = self.models.choose(parameters.category)
        manifest = model.bundle.manifest

        def picture_of(opened: Opened) -> Picture:
            return Picture(opened.pixels, parameters.category)

        def judge(opened: Opened, outcome: Outcome) -> tuple[Decision, Drawn]:
            decision = decide(outcome, parameters.alpha or manifest.calibration.alpha)
            return decision, draw(opened, outcome, decision, parameters, manifest.input)

        async def work(way: Way, waited_s: float) -> DetectAnswer:
            open_it = partial(self.open, model.bundle, data, parameters, trace.caller, way.most)
            opened, computed, judged = await relay(
                Step(way.decoding, calling(open_it)),
                Step(way.batcher, picture_of, trace.caller),
                Step(way.encoding, calling(judge), trace.caller),
            )
            decision, drawn = judged.result
            computed_ms = computed.result.timings_ms
            timings_ms = timings(held_up_s + waited_s, opened, computed, judged, computed_ms, trace.started)
            self.metrics.count_picture(decision, computed.result, timings_ms)
            return answer_of(model, trace, decision, computed, drawn, timings_ms)

        with model_problems():
            return await model.lane.through(trace.caller, work, announced_effort(data))

    async def detect_all(
        self, pictures: Sequence[bytes], parameters: DetectParameters, trace: Trace
    ) -> list[DetectAnswer | ProblemAnswer]:
        """Each picture's verdict or problem, in order; one request works on `max_batch` pictures at once.

        Those whose maps would make the answer too large get a problem (413). Raises: Problem (404) for an
        unknown category, which would fail every picture.
        """
        self.models.choose(parameters.category)
        slots = asyncio.Semaphore(self.settings.max_batch)
        map_bytes = 0
        began = perf_counter()

        def told(problem: Problem) -> ProblemAnswer:
            self.metrics.count_problem(problem)
            return problem_answer(problem, trace.request_id)

        async def one(data: bytes) -> DetectAnswer | ProblemAnswer:
            nonlocal map_bytes
            async with slots:
                try:
                    answer = await self.detect(data, parameters, trace, perf_counter() - began)
                    own = size_of_map(answer.anomaly_map)
                    if map_bytes + own > MOST_MAP_BYTES:
                        raise too_large_maps(f"this one of {own} bytes follows {map_bytes} of others")
                    map_bytes += own
                    return answer
                except Problem as problem:
                    return told(problem)
                except Exception as error:  # must not fail the others
                    log.exception("picture failed")
                    return told(unexpected(error))

        return await asyncio.gather(*map(one, pictures))

    def open(
        self, bundle: Bundle, data: bytes, parameters: PictureParameters, caller: Caller, expected: float
    ) -> Opened:
        """Decode a picture for a bundle, in a thread of its lane.

        Raises: as `open_picture`, and Problem (504).
        """
        caller.check("the picture was decoded")
        spec = bundle.manifest.input
        if parameters.bit_depth:
            spec = spec.model_copy(update={"bit_depth": parameters.bit_depth})
        return open_picture(data, spec, self.settings.max_pixels, expected)

    async def reload(self) -> None:
        """Load the bundles anew, and once they are warm let them answer instead of the present ones.

        Pictures that the present models have begun are finished by them.
        Raises: Problem (422) when a bundle is bad, (503) after `leave`; then nothing changes.
        """
        async with self._reloading:
            try:
                rest = Resting(self._leaving)
                fresh = await asyncio.to_thread(
                    load_models, self.settings, self.metrics, self.models.all, rest
                )
            except StoppedError as error:
                raise Problem(Kind.UNAVAILABLE, f"nothing was changed: {error}") from error
            except (BundleError, GraphError, OSError) as error:
                self.metrics.reloads.labels("refused").inc()
                log.error("reload refused", reason=str(error))
                raise Problem(Kind.BAD_BUNDLE, f"nothing was changed: {error}") from error
            new, left = self.models.swap(fresh)
            self._begin(new)
            self.models.publish(self.metrics)
            self.metrics.reloads.labels("done").inc()
            log.info("reloaded", new=_names(new), left=_names(left))
            await self._end(left)
            left.clear()
            await asyncio.to_thread(tidy)

    def leave(self) -> None:
        """Give up what is being loaded, since the service is stopping."""
        self._leaving.set()

    def _begin(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            for workers in model.stages:
                workers.start()
                self.health.watch(workers)

    async def _end(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            await model.retire()
            for workers in model.stages:
                self.health.forget(workers)


def _names(models: Sequence[AnyModel]) -> list[str]:
    return [model.bundle.manifest.name for model in models]


@contextmanager
def model_problems() -> Generator[None, None, None]:
    """Tell the caller of a model or a stage that fails.

    Raises: Problem (500, 503).
    """
    try:
        yield
    except GraphError as error:
        log.exception("model failed")
        raise Problem(Kind.INTERNAL, "the model failed on this picture, the log has more") from error
    except StageError as error:
        raise Problem(Kind.UNAVAILABLE, str(error), {"Retry-After": "1"}) from error
