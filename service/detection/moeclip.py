"""One picture's way: texts -> slot -> decode -> compute -> judge and draw -> answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

from anyio import move_on_after

from export.contract.decision import display_score
from service.detection.class_names import ClassName, clean_names, wrong_name
from service.detection.request import Trace, model_problems, timings
from service.detection.text_cache import TextCache
from service.detection.verdict import Verdict, judge
from service.detection.zero_shot_answer import Maps, answer_of, draw_maps
from service.errors import Kind, Problem
from service.images.decode import Opened
from service.images.header import announced_effort
from service.inference.moeclip import ZeroShotInput, ZeroShotOutcome
from service.inference.text_tower import ClassText, NameTooLongError
from service.models.model import ZeroShotModel
from service.models.runtime import Runtime
from service.scheduling.caller import Caller, deadline_problem
from service.schemas.zero_shot import ZeroShotAnswer, ZeroShotParameters


class ZeroShotService:
    """Answers pictures and class names; permits, threads and models are those of `runtime`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._cache = TextCache(runtime.settings.text_cache_size, runtime.metrics)

    async def detect(self, data: bytes, parameters: ZeroShotParameters, trace: Trace) -> ZeroShotAnswer:
        """The verdict on one encoded picture with each of the class names.

        Raises: Problem (400, 404, 413, 415, 422, 500 when the model fails, 503, 504).
        """
        model = self._runtime.models.zero_shot()
        settings = self._settings
        names = clean_names(parameters.class_names, settings.max_class_names, settings.max_class_name_length)
        distinct = list(dict.fromkeys(name.canonical for name in names))
        places = [distinct.index(name.canonical) for name in names]

        with model_problems(), model.pipeline.used():
            began = perf_counter()
            texts = await self._texts(model, names, trace.caller)
            text_ms = (perf_counter() - began) * 1000
            async with model.pipeline.slot(trace.caller, announced_effort(data)) as slot:
                opened = await slot.decode(data, parameters.read_as(model.bundle.manifest.input))
                self._check_maps(opened.result.size, len(names), parameters)
                has_all = parameters.maps == "all"
                question = ZeroShotInput(opened.result.pixels, texts, parameters.is_medical, has_all)
                computed = await slot.compute(question)
                judging = partial(judge_all, model, names, places, opened.result, computed.result, parameters)
                judged = await slot.encode(judging)
                computed_ms = {"text": text_ms, **computed.result.timings_ms}
                timings_ms = timings(opened, judged, computed_ms, trace.started)
                finding, verdicts, maps = judged.result
                best = verdicts[finding.best]
                score = display_score(best.score, best.threshold)
                self._runtime.metrics.count_zero_shot(best.is_anomalous, score, timings_ms)
                answered = replace(computed, result=finding)
                return answer_of(model.bundle, trace, verdicts, answered, maps, timings_ms)

    def _check_maps(self, size: tuple[int, int], names: int, parameters: ZeroShotParameters) -> None:
        """Refuse maps that have more pixels in all than a picture may have; size is (width, height).

        Raises: Problem (413).
        """
        if parameters.map == "none" or (parameters.maps, parameters.map_size) != ("all", "input"):
            return
        width, height = size
        if names * width * height > self._settings.max_pixels:
            detail = (
                f"maps: {names} maps of {width} x {height} pixels were asked for, the limit is "
                f"{self._settings.max_pixels} in all; ask for map_size=model or maps=best"
            )
            raise Problem(Kind.TOO_LARGE, detail)

    async def _texts(
        self, model: ZeroShotModel, names: Sequence[ClassName], caller: Caller
    ) -> tuple[ClassText, ...]:
        """What the text tower says of each distinct name, in order; as calibrated ones were spelt then.

        Raises: Problem (422 for one that is too long, 504), StageError.
        """

        async def encode(name: str) -> ClassText:
            return (await model.names.submit(name)).result

        calibrated = model.bundle.class_scores
        spelt: dict[str, int] = {}
        for place, (_, name) in enumerate(names):
            spelt.setdefault(calibrated[name].name if name in calibrated else name, place)
        turn = partial(model.name_turns.slot, Caller(caller.client))  # its deadline ends the wait below
        try:
            with move_on_after(caller.remaining_s):
                return tuple(await self._cache.texts(model.bundle.digest, list(spelt), turn, encode))
        except NameTooLongError as error:
            place = spelt[error.args[0]]
            why = "too many tokens for the prompts of the model"
            raise wrong_name(place, names[place].asked, why) from error
        except asyncio.CancelledError:
            self._runtime.metrics.abandoned.inc()
            raise
        raise deadline_problem("the class names were encoded", "text")


def judge_all(
    model: ZeroShotModel,
    names: Sequence[ClassName],
    places: Sequence[int],
    opened: Opened,
    computed: ZeroShotOutcome,
    parameters: ZeroShotParameters,
) -> tuple[ZeroShotOutcome, Sequence[Verdict], Maps]:
    """What was found for each name, the verdicts, and the maps that show them.

    places: of each name among the distinct ones that were computed. Raises: as `draw_maps`.
    """
    finding = computed.at(places)
    verdicts = judge(model.bundle, names, opened.pixels, finding, parameters)
    return finding, verdicts, draw_maps(opened, finding, verdicts, parameters, model.bundle.manifest.input)
