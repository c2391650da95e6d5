"""From an outcome and a decision to the answer of the API: map, regions, timings."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from export.contract.bundle import Bundle
from export.contract.category import FloatArray
from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box
from service.detection.decision import Decision
from service.errors import Kind, Problem
from service.images.decode import Opened
from service.inference.anomalymoe import Outcome
from service.maps.encodings import encode_map, find_regions, place_alone, place_in_picture
from service.models.registry import Model
from service.scheduling.caller import ANYONE, Caller
from service.scheduling.stage import StageResult
from service.schemas.findings import Region
from service.schemas.models import DetectAnswer, DetectParameters, MapAnswer, MapParameters, ModelRef

MOST_MAP_BYTES = 2**27  # in an answer, which is held in memory and written by the event loop
BASE64_PART = 3 * 2**18  # bytes, in whole groups of three

Drawn = tuple[MapAnswer | None, list[Region]]


@dataclass(frozen=True)
class Trace:
    """Which request a picture belongs to, when it began (seconds, `perf_counter`) and who asks."""

    request_id: str
    started: float
    caller: Caller = ANYONE


def draw(
    opened: Opened, outcome: Outcome, decision: Decision, parameters: DetectParameters, spec: InputSpec
) -> Drawn:
    """The anomaly map and the regions, as far as they are asked for. Raises: as `draw_map`."""
    threshold = decision.pixel_threshold
    regions: list[Region] = []
    if parameters.regions:
        regions = find_regions(outcome.map, outcome.level_maps, threshold, opened.size, spec)
    return draw_map(opened, outcome.map, threshold, parameters, spec), regions


def draw_map(
    opened: Opened, raw_map: FloatArray, threshold: float, parameters: MapParameters, spec: InputSpec
) -> MapAnswer | None:
    """One anomaly map (Hm, Wm) as the parameters want it, 0.5 at the threshold.

    Raises: Problem (413) when it has too many bytes.
    """
    if parameters.map == "none":
        return None
    is_input = parameters.map_size == "input"
    place = place_in_picture(opened.size, spec) if is_input else place_alone(raw_map)
    width, height = place.size

    def check(size: int) -> None:
        if size > MOST_MAP_BYTES:
            raise too_large_maps(f"one of {width} x {height} pixels as {parameters.map} has {size} bytes")

    if parameters.map == "npy":  # whose size is known before it is made
        check(np.dtype(np.float32).itemsize * width * height)
    picture = opened.image if parameters.map == "overlay" else None
    if picture and not is_input:  # the map shows what the model sees
        picture = picture.resize(place.size, box=visible_box(opened.size, spec))
    data = encode_map(raw_map, threshold, parameters.map, place, picture)
    check(len(data))
    return MapAnswer(encoding=parameters.map, width=width, height=height, data=_base64(data))


def _base64(data: bytes) -> str:
    """In parts, between which other threads get on."""
    parts = (data[start : start + BASE64_PART] for start in range(0, len(data), BASE64_PART))
    return "".join(b64encode(part).decode() for part in parts)


def size_of_map(answer: MapAnswer | None) -> int:
    """About how many bytes a map has without base64."""
    return len(answer.data) * 3 // 4 if answer else 0


def too_large_maps(what: str) -> Problem:
    """The answer to who asks for larger maps than an answer may hold."""
    detail = f"map: {what}, the limit is {MOST_MAP_BYTES} in an answer; ask for map_size=model or map=png"
    return Problem(Kind.TOO_LARGE, detail)


def timings(
    waited_s: float,
    decoded: StageResult[Any],
    computed: StageResult[Any],
    encoded: StageResult[Any],
    computed_ms: Mapping[str, float],
    started: float,
) -> dict[str, float]:
    """Milliseconds of each stage, of all waiting for them, and of the request so far.

    waited_s: for the first of them. computed_ms: what `computed` tells of its own parts.
    """
    queue_s = waited_s + decoded.queue_s + computed.queue_s + encoded.queue_s
    stages = {
        "decode": decoded.took_s * 1000,
        "queue": queue_s * 1000,
        **computed_ms,
        "encode": encoded.took_s * 1000,
        "total": (perf_counter() - started) * 1000,
    }
    return {name: round(ms, 3) for name, ms in stages.items()}


def model_ref(bundle: Bundle) -> ModelRef:
    """Which bundle answered."""
    return ModelRef(name=bundle.manifest.name, version=bundle.manifest.version, digest=bundle.digest)


def answer_of(
    model: Model,
    trace: Trace,
    decision: Decision,
    batched: StageResult[Outcome],
    drawn: Drawn,
    timings_ms: dict[str, float],
) -> DetectAnswer:
    """Everything about one picture in the form of the API."""
    anomaly_map, regions = drawn
    return DetectAnswer(
        request_id=trace.request_id,
        model=model_ref(model.bundle),
        category=decision.category,
        category_source=decision.category_source,
        score=decision.score,
        raw_score=decision.raw_score,
        threshold=decision.threshold,
        p_value=decision.p_value,
        alpha=decision.alpha,
        is_anomalous=decision.is_anomalous,
        reason=decision.reason,
        distance=decision.distance,
        distance_limit=decision.distance_limit,
        levels=decision.levels,
        experts=list(batched.result.experts),
        regions=regions,
        anomaly_map=anomaly_map,
        timings_ms=timings_ms,
        batch_size=batched.batch_size,
    )
