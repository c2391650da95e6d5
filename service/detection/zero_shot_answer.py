"""From a finding and its verdicts to the answer of the API: maps, classes, timings."""

from collections.abc import Mapping, Sequence

from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from service.detection.answer import model_ref
from service.detection.map_answer import MOST_MAP_BYTES, draw_map, size_of_map, too_large_maps
from service.detection.request import Trace
from service.detection.verdict import Verdict
from service.images.decode import Opened
from service.inference.moeclip import ZeroShotOutcome
from service.scheduling.stage import StageResult
from service.schemas.common import MapAnswer
from service.schemas.zero_shot import ClassAnswer, ZeroShotAnswer, ZeroShotParameters

Maps = Mapping[int, MapAnswer | None]


def draw_maps(
    opened: Opened,
    finding: ZeroShotOutcome,
    verdicts: Sequence[Verdict],
    parameters: ZeroShotParameters,
    spec: InputSpec,
) -> Maps:
    """The maps that are asked for, by the place of their class name.

    Raises: Problem (413) when they have too many bytes, one or all together.
    """
    maps: dict[int, MapAnswer | None] = {}
    size = 0
    for place, raw_map in finding.maps.items():
        maps[place] = draw_map(opened, raw_map, verdicts[place].pixel_threshold, parameters, spec)
        size += size_of_map(maps[place])
        if size > MOST_MAP_BYTES:
            raise too_large_maps(f"{len(maps)} of {len(finding.maps)} maps have {size} bytes")
    return maps


def answer_of(
    bundle: Bundle,
    trace: Trace,
    verdicts: Sequence[Verdict],
    batched: StageResult[ZeroShotOutcome],
    maps: Maps,
    timings_ms: dict[str, float],
) -> ZeroShotAnswer:
    """Everything about one picture in the form of the API; a class has its map if there are several."""
    best = batched.result.best
    return ZeroShotAnswer(
        request_id=trace.request_id,
        model=model_ref(bundle),
        calibrated=all(verdict.is_calibrated for verdict in verdicts),
        best=verdicts[best].class_name,
        classes=[
            ClassAnswer(
                class_name=verdict.class_name,
                score=verdict.score,
                threshold=verdict.threshold,
                is_anomalous=verdict.is_anomalous,
                anomaly_map=maps[place] if batched.result.has_all_maps else None,
            )
            for place, verdict in enumerate(verdicts)
        ],
        anomaly_map=maps[best],
        timings_ms=timings_ms,
        batch_size=batched.batch_size,
    )
