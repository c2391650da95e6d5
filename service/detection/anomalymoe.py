"""One picture's way: slot -> decode -> compute -> decide and draw -> answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from threading import Event
from time import perf_counter
from typing import NamedTuple

import structlog

from export.contract.bundle import BundleError
from service.detection.answer import answer_of
from service.detection.decision import Decision, decide
from service.detection.map_answer import MOST_MAP_BYTES, Drawn, draw, size_of_map, too_large_maps
from service.detection.request import Trace, model_problems, timings
from service.errors import Kind, Problem, ProblemAnswer, problem_answer, unexpected
from service.images.decode import Opened
from service.images.header import announced_effort
from service.inference.anomalymoe import Outcome, Picture
from service.inference.backends.base import GraphError
from service.metrics import Metrics
from service.models.health import Health
from service.models.loading import load_models
from service.models.model import AnyModel, Model
from service.models.pipeline import Slot
from service.models.registry import ModelRegistry
from service.process import release_memory
from service.scheduling.permits import Permits
from service.scheduling.stage import StageResult
from service.schemas.detect import DetectAnswer, DetectParameters
from service.settings import Settings
from service.throttle import StoppedError, Throttle

log = structlog.stdlib.get_logger("anomoe.detection")


class _Look(NamedTuple):
    """What one model makes of a picture, and the slot in which its verdict is drawn."""

    model: Model
    slot: Slot[Picture, Outcome]
    opened: StageResult[Opened]
    computed: StageResult[Outcome]

    def distance(self) -> float:
        """How far the picture is from the nearest product of the model, by its own calibration."""
        return self.computed.result.distance


class Detector:
    """Answers pictures with the models; requests that hold one of its permits are worked on."""

    def __init__(self, settings: Settings, models: ModelRegistry, metrics: Metrics) -> None:
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
        with model_problems():
            async with AsyncExitStack() as slots:
                looks: list[_Look] = []
                for model in self.models.candidates(parameters.category):
                    pipeline = model.lane.slot(trace.caller, announced_effort(data))
                    slot = await slots.enter_async_context(pipeline)
                    opened = await slot.decode(data, parameters.read_as(model.bundle.manifest.input))
                    computed = await slot.compute(Picture(opened.result.pixels, parameters.category))
                    looks.append(_Look(model, slot, opened, computed))
                model, slot, opened, computed = min(looks, key=_Look.distance)
                judging = partial(judge, model, opened.result, computed.result, parameters)
                judged = await slot.encode(judging)
                computed_ms, waited_s = computed.result.timings_ms, held_up_s + slot.waited_s
                timings_ms = timings(waited_s, opened, computed, judged, computed_ms, trace.started)
                decision, drawn = judged.result
                chosen = [(expert.level, expert.index) for expert in computed.result.experts]
                self.metrics.count_picture(
                    decision.category, decision.is_anomalous, decision.score, chosen, timings_ms
                )
                is_this_product = decision.reason != "not_this_product"
                self.metrics.count_distance(decision.category, decision.distance, is_this_product)
                return answer_of(model, trace, decision, computed, drawn, timings_ms)

    async def detect_all(
        self, pictures: Sequence[bytes], parameters: DetectParameters, trace: Trace
    ) -> list[DetectAnswer | ProblemAnswer]:
        """Each picture's verdict or problem, in order; one request works on `max_batch` pictures at once.

        Those whose maps would make the answer too large get a problem (413). Raises: Problem (404) for an
        unknown category, which would fail every picture.
        """
        self.models.candidates(parameters.category)
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

    async def reload(self) -> None:
        """Load the bundles anew, and once they are warm let them answer instead of the present ones.

        Pictures that the present models have begun are finished by them.
        Raises: Problem (422) when a bundle is bad, (503) after `leave`; then nothing changes.
        """
        async with self._reloading:
            try:
                rest = Throttle(self._leaving)
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
            await asyncio.to_thread(release_memory)

    def leave(self) -> None:
        """Give up what is being loaded, since the service is stopping."""
        self._leaving.set()

    def _begin(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            for stage in model.stages:
                stage.start()
                self.health.watch(stage)

    async def _end(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            await model.retire()
            for stage in model.stages:
                self.health.forget(stage)


def judge(
    model: Model, opened: Opened, outcome: Outcome, parameters: DetectParameters
) -> tuple[Decision, Drawn]:
    """The verdict on a picture, and the map and regions that show it. Raises: as `draw`."""
    manifest = model.bundle.manifest
    decision = decide(outcome, parameters.alpha or manifest.calibration.alpha)
    return decision, draw(opened, outcome, decision, parameters, manifest.input)


def _names(models: Sequence[AnyModel]) -> list[str]:
    return [model.bundle.manifest.name for model in models]
