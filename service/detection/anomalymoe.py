"""One picture's way: slot -> decode -> compute -> decide and draw -> answer."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

import structlog

from service.detection.answer import answer_of
from service.detection.decision import Decision, decide
from service.detection.map_answer import MOST_MAP_BYTES, Drawn, draw, size_of_map, too_large_maps
from service.detection.request import Trace, model_problems, timings
from service.errors import Problem, ProblemAnswer, problem_answer, unexpected
from service.images.decode import Opened
from service.images.header import announced_effort
from service.inference.anomalymoe import Outcome, Picture
from service.models.model import Model
from service.models.pipeline import Slot
from service.models.runtime import Runtime
from service.scheduling.stage import StageResult
from service.schemas.detect import DetectAnswer, DetectParameters

log = structlog.stdlib.get_logger("anomoe.detection")


class _Look(NamedTuple):
    """What one model makes of a picture, and the slot in which its verdict is drawn."""

    model: Model
    slot: Slot[Picture, Outcome]
    opened: StageResult[Opened]
    computed: StageResult[Outcome]


class DetectionService:
    """Answers pictures with the models of a runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def detect(self, data: bytes, parameters: DetectParameters, trace: Trace) -> DetectAnswer:
        """The verdict on one encoded picture.

        Raises: Problem (400, 404, 413, 415, 422, 500 when the model fails, 503, 504).
        """
        candidates = self._runtime.models.candidates(parameters.category)
        with model_problems():
            async with AsyncExitStack() as slots:
                looks: list[_Look] = []
                # Each slot is held until all models have looked: one order for all, whatever a reload does.
                for model in sorted(candidates, key=id):
                    turn = model.pipeline.slot(trace.caller, announced_effort(data))
                    slot = await slots.enter_async_context(turn)
                    opened = await slot.decode(data, parameters.read_as(model.bundle.manifest.input))
                    computed = await slot.compute(Picture(opened.result.pixels, parameters.category))
                    looks.append(_Look(model, slot, opened, computed))
                model, slot, opened, computed = min(
                    looks, key=lambda look: (look.computed.result.distance, candidates.index(look.model))
                )
                judging = partial(judge, model, opened.result, computed.result, parameters)
                judged = await slot.encode(judging)
                timings_ms = timings(opened, judged, computed.result.timings_ms, trace.started)
                decision, drawn = judged.result
                chosen = [(expert.level, expert.index) for expert in computed.result.experts]
                self._runtime.metrics.count_picture(
                    decision.category, decision.is_anomalous, decision.score, chosen, timings_ms
                )
                is_this_product = decision.reason != "not_this_product"
                self._runtime.metrics.count_distance(decision.category, decision.distance, is_this_product)
                category = computed.result.category.name  # the nearest, also of an unknown product
                self._runtime.drift.note(model.bundle.digest, category, decision.raw_score, decision.distance)
                return answer_of(model, trace, decision, computed, drawn, timings_ms)

    async def detect_all(
        self, pictures: Sequence[bytes], parameters: DetectParameters, trace: Trace
    ) -> list[DetectAnswer | ProblemAnswer]:
        """Each picture's verdict or problem, in order; one request works on `max_batch` pictures at once.

        Those whose maps would make the answer too large get a problem (413). Raises: Problem (404) for an
        unknown category, which would fail every picture.
        """
        self._runtime.models.candidates(parameters.category)
        slots = asyncio.Semaphore(self._runtime.settings.max_batch)
        map_bytes = 0

        def told(problem: Problem) -> ProblemAnswer:
            self._runtime.metrics.count_problem(problem)
            return problem_answer(problem, trace.request_id)

        async def one(data: bytes) -> DetectAnswer | ProblemAnswer:
            nonlocal map_bytes
            async with slots:
                try:
                    answer = await self.detect(data, parameters, trace)
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


def judge(
    model: Model, opened: Opened, outcome: Outcome, parameters: DetectParameters
) -> tuple[Decision, Drawn]:
    """The verdict on a picture, and the map and regions that show it. Raises: as `draw`."""
    manifest = model.bundle.manifest
    decision = decide(outcome, parameters.alpha or manifest.calibration.alpha)
    return decision, draw(opened, outcome, decision, parameters, manifest.input)
