"""From an outcome and a decision to the answer of the API: map, regions, timings."""

from export.contract.bundle import Bundle
from service.detection.decision import Decision
from service.detection.map_answer import Drawn
from service.detection.request import Trace
from service.inference.anomalymoe import Outcome
from service.models.model import Model
from service.scheduling.stage import StageResult
from service.schemas.common import ModelRef
from service.schemas.detect import DetectAnswer


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
