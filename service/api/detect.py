"""The paths of the service: each only translates between HTTP and the detector."""

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from export.contract.decision import conformal_threshold, effective_alpha
from service.api.openapi import picture_body, pictures_body
from service.api.upload import read_form, read_upload
from service.detection.answer import Trace
from service.errors import Kind, Problem
from service.middleware.admission import detector_of, work_router
from service.middleware.authentication import needs_admin
from service.middleware.disconnect import until_hangup
from service.middleware.responses import AnswerResponse
from service.models.registry import Model
from service.models.text_queue import ZeroShotModel
from service.schemas.models import (
    BatchAnswer,
    CategoriesAnswer,
    CategoryInfo,
    DetectAnswer,
    DetectParameters,
    ExpertInfo,
    HealthAnswer,
    ModelInfo,
    ModelsAnswer,
    PlanInfo,
    ZeroShotInfo,
)
from service.tuning.plan import described

work = work_router("anomalymoe")
router = APIRouter()


@work.post("/detect", response_model=DetectAnswer, openapi_extra=picture_body(DetectParameters))
async def detect(request: Request) -> Response:
    """Judge one picture."""
    upload = await read_upload(request, DetectParameters)
    judging = detector_of(request.app).detect(upload.one(), upload.parameters, trace_of(request))
    answer = await until_hangup(request, judging)
    request.state.timings_ms.update(answer.timings_ms)
    return AnswerResponse(answer, request.state.permit.cover_answer)


@work.post("/detect/batch", response_model=BatchAnswer, openapi_extra=pictures_body(DetectParameters))
async def detect_batch(request: Request) -> Response:
    """Judge several pictures; each gets a result or an error of its own, in order."""
    upload = await read_form(request, DetectParameters)
    if not upload.pictures:
        raise Problem(Kind.INVALID_PARAMETER, "file: at least one picture is expected, got 0")
    trace = trace_of(request)
    judging = detector_of(request.app).detect_all(upload.pictures, upload.parameters, trace)
    answer = BatchAnswer(request_id=trace.request_id, results=await until_hangup(request, judging))
    return AnswerResponse(answer, request.state.permit.cover_answer)


@router.get("/categories")
async def categories(request: Request) -> CategoriesAnswer:
    """Every product and calibrated class name, with its threshold at the bundle's default alpha."""
    served = detector_of(request.app).models.all
    return CategoriesAnswer(categories=[info for model in served for info in category_infos(model)])


@router.get("/models")
async def models(request: Request) -> ModelsAnswer:
    """Every model in service."""
    return ModelsAnswer(models=[model_info(model) for model in detector_of(request.app).models.all])


@router.post("/models/reload", dependencies=[Depends(needs_admin)])
async def reload(request: Request) -> ModelsAnswer:
    """Load the bundles anew (admin key); the present ones serve until the new ones are warm."""
    await detector_of(request.app).reload()
    return await models(request)


@router.get("/healthz")
async def healthz() -> HealthAnswer:
    """Whether the process is alive."""
    return HealthAnswer(status="alive")


@router.get("/readyz")
async def readyz(request: Request) -> HealthAnswer:
    """Whether pictures can be answered; 503 when not."""
    detector_of(request.app).health.check()
    return HealthAnswer(status="ready")


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics as Prometheus text."""
    return Response(detector_of(request.app).metrics.render(), media_type=CONTENT_TYPE_LATEST)


def trace_of(request: Request) -> Trace:
    """The id, begin and caller of a request, as the middleware left them."""
    return Trace(request.state.request_id, request.state.started, request.state.caller)


def category_infos(model: Model | ZeroShotModel) -> list[CategoryInfo]:
    """What the API tells about a model's products or calibrated class names."""
    manifest = model.bundle.manifest
    alpha = manifest.calibration.alpha
    calibrations = {**model.bundle.categories, **model.bundle.class_scores}
    return [
        CategoryInfo(
            name=name,
            model=manifest.name,
            kind=manifest.kind,
            threshold=conformal_threshold(calibration.scores, alpha),
            alpha=effective_alpha(len(calibration.scores), alpha),
            calibration_size=len(calibration.scores),
        )
        for name, calibration in calibrations.items()
    ]


def model_info(model: Model | ZeroShotModel) -> ModelInfo:
    """What the API tells about a model."""
    manifest = model.bundle.manifest
    spec, plan = manifest.zero_shot, model.lane.plan
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        digest=model.bundle.digest,
        kind=manifest.kind,
        created=manifest.created,
        input_height=manifest.input.height,
        input_width=manifest.input.width,
        top_k=manifest.top_k,
        experts=[ExpertInfo(level=expert.level, index=expert.index) for expert in manifest.experts],
        categories=list(manifest.categories),
        format=manifest.format,
        precision=manifest.precision,
        left_out=manifest.left_out,
        zero_shot=ZeroShotInfo.model_validate(spec.model_dump()) if spec else None,
        plan=PlanInfo.model_validate(described(plan)),
    )
