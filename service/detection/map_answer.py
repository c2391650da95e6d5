"""The anomaly map of an answer, and its regions."""

from base64 import b64encode

import numpy as np

from export.contract.category import FloatArray
from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box
from service.detection.decision import Decision
from service.errors import Kind, Problem
from service.images.decode import Opened
from service.inference.anomalymoe import Outcome
from service.maps.encodings import encode_map
from service.maps.placement import place_alone, place_in_picture
from service.maps.regions import find_regions
from service.schemas.common import MapAnswer, MapParameters
from service.schemas.detect import DetectParameters
from service.schemas.findings import Region

MOST_MAP_BYTES = 2**27  # in an answer, which is held in memory and written by the event loop
BASE64_PART = 3 * 2**18  # bytes, in whole groups of three

Drawn = tuple[MapAnswer | None, list[Region]]


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
    starts = range(0, len(data), BASE64_PART)
    return "".join([b64encode(data[start : start + BASE64_PART]).decode() for start in starts])


def size_of_map(answer: MapAnswer | None) -> int:
    """About how many bytes a map has without base64."""
    return len(answer.data) * 3 // 4 if answer else 0


def too_large_maps(what: str) -> Problem:
    """The answer to who asks for larger maps than an answer may hold."""
    detail = f"map: {what}, the limit is {MOST_MAP_BYTES} in an answer; ask for map_size=model or map=png"
    return Problem(Kind.TOO_LARGE, detail)
