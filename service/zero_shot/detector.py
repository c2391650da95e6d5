"""One picture's way: texts -> slot -> decode -> compute -> judge and draw -> answer."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter

from anyio import move_on_after

from service.answer import Trace, timings
from service.caller import Caller, deadline_problem
from service.detect import Detector, model_problems
from service.errors import Kind, Problem
from service.image import Opened, announced_effort
from service.zero_shot.answer import Maps, answer_of, draw_maps
from service.zero_shot.class_names import clean_names, wrong_name
from service.zero_shot.engine import Finding, Question
from service.zero_shot.model import ZeroShotModel
from service.zero_shot.schemas import ZeroShotAnswer, ZeroShotParameters
from service.zero_shot.text_cache import TextCache
from service.zero_shot.text_tower import ClassText, NameTooLongError
from service.zero_shot.verdict import Verdict, judge


class ZeroShotDetector:
    """Answers pictures and class names; permits, threads and models are those of `detector`."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._settings = detector.settings
        self._cache = TextCache(detector.settings.text_cache_size, detector.metrics)

    async def detect(self, data: bytes, parameters: ZeroShotParameters, trace: Trace) -> ZeroShotAnswer:
        """The verdict on one encoded picture with each of the class names.

        Raises: Problem (400, 404, 413, 415, 422, 500 when the model fails, 503, 504).
        """
        model = self._detector.models.zero_shot()
        settings = self._settings
        places = clean_names(parameters.class_names, settings.max_class_names, settings.max_class_name_length)
        names = list(places)

        with model_problems(), model.lane.used():
            began = perf_counter()
            texts = await self._texts(model, places, trace.caller)
            text_ms = (perf_counter() - began) * 1000
            async with model.lane.slot(trace.caller, announced_effort(data)) as slot:
                opened = await slot.decode(data, model.bundle.manifest.input)
                self._check_maps(opened.result.size, len(names), parameters)
                has_all = parameters.maps == "all"
                question = Question(opened.result.pixels, texts, parameters.is_medical, has_all)
                computed = await slot.compute(question)
                judging = partial(judge_all, model, names, opened.result, computed.result, parameters)
                judged = await slot.encode(judging)
                computed_ms = {"text": text_ms, **computed.result.timings_ms}
                timings_ms = timings(slot.waited_s, opened, computed, judged, computed_ms, trace.started)
                verdicts, maps = judged.result
                self._detector.metrics.count_zero_shot(verdicts[computed.result.best], timings_ms)
                return answer_of(model.bundle, trace, verdicts, computed, maps, timings_ms)

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
        self, model: ZeroShotModel, places: Mapping[str, int], caller: Caller
    ) -> tuple[ClassText, ...]:
        """What the text tower says of the names, given with their places in the request.

        Raises: Problem (422 for one that is too long, 504), StageError.
        """

        async def encode(name: str) -> ClassText:
            return (await model.names.submit(name)).result

        turn = partial(model.name_turns.slot, Caller(caller.client))  # its deadline ends the wait below
        try:
            with move_on_after(caller.remaining_s):
                return tuple(await self._cache.texts(model.bundle.digest, list(places), turn, encode))
        except NameTooLongError as error:
            (name,) = error.args
            raise wrong_name(places[name], name, "too many tokens for the prompts of the model") from error
        except asyncio.CancelledError:
            self._detector.metrics.abandoned.inc()
            raise
        raise deadline_problem("the class names were encoded")


def judge_all(
    model: ZeroShotModel,
    names: Sequence[str],
    opened: Opened,
    finding: Finding,
    parameters: ZeroShotParameters,
) -> tuple[Sequence[Verdict], Maps]:
    """The verdict on a picture with each name, and the maps that show it. Raises: as `draw_maps`."""
    verdicts = judge(model.bundle, names, finding, parameters)
    return verdicts, draw_maps(opened, finding, verdicts, parameters, model.bundle.manifest.input)
