"""One picture's way: turn -> decode -> texts -> batcher -> judge -> encode -> answer."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter

from service.answer import Trace, timings
from service.detect import Detector, model_problems
from service.errors import Kind, Problem
from service.image import Opened
from service.lane import Way
from service.relay import Step, calling, relay
from service.zero_shot.answer import Maps, answer_of, draw_maps
from service.zero_shot.class_names import clean_names
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
        names = self._names(parameters)

        def judge_all(opened: Opened, finding: Finding) -> tuple[Sequence[Verdict], Maps]:
            verdicts = judge(model.bundle, names, finding, parameters)
            return verdicts, draw_maps(opened, finding, verdicts, parameters, model.bundle.manifest.input)

        async def work(way: Way, waited_s: float) -> ZeroShotAnswer:
            open_it = partial(self._detector.open, model.bundle, data, parameters, trace.caller, way.most)
            decoded = await way.decoding.submit(open_it)
            opened: Opened = decoded.result
            self._check_maps(opened.size, len(names), parameters)
            began = perf_counter()
            texts = await self._texts(model, names)
            text_ms = (perf_counter() - began) * 1000
            question = Question(opened.pixels, texts, parameters.is_medical, parameters.maps == "all")
            batched, judged = await relay(
                Step(model.batcher, lambda: question, trace.caller),
                Step(way.encoding, calling(partial(judge_all, opened)), trace.caller),
            )
            verdicts, maps = judged.result
            computed_ms = {"text": text_ms, **batched.result.timings_ms}
            timings_ms = timings(waited_s, decoded, batched, judged, computed_ms, trace.started)
            self._detector.metrics.count_zero_shot(verdicts[batched.result.best], timings_ms)
            return answer_of(model.bundle, trace, verdicts, batched, maps, timings_ms)

        with model_problems():
            return await model.lane.through(trace.caller, work)

    def _names(self, parameters: ZeroShotParameters) -> list[str]:
        settings = self._settings
        return clean_names(parameters.class_names, settings.max_class_names, settings.max_class_name_length)

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

    async def _texts(self, model: ZeroShotModel, names: list[str]) -> tuple[ClassText, ...]:
        async def encode(name: str) -> ClassText:
            return (await model.names.submit(name)).result

        try:
            return tuple(await self._cache.texts(model.bundle.digest, names, encode))
        except NameTooLongError as error:
            raise Problem(Kind.INVALID_PARAMETER, f"class_names: {error}") from error
