"""The paths that tell of the models and products, and the reload."""

from fastapi import APIRouter, Depends, Request

from export.contract.decision import conformal_threshold, effective_alpha
from export.contract.names import Name, canonical_name
from service.detection.answer import model_ref
from service.errors import Kind, Problem, shown
from service.middleware.admission import runtime_of
from service.middleware.authentication import needs_admin
from service.models.model import Model, ZeroShotModel
from service.schemas.models import (
    CalibrationAnswer,
    CategoriesAnswer,
    CategoryInfo,
    ExpertInfo,
    ModelInfo,
    ModelsAnswer,
    PlanInfo,
    ZeroShotInfo,
)
from service.tuning.plan import described

router = APIRouter()


@router.get("/categories")
async def categories(request: Request) -> CategoriesAnswer:
    """Every product and calibrated class name, with its threshold at the bundle's default alpha."""
    served = runtime_of(request.app).models.all
    return CategoriesAnswer(categories=[info for model in served for info in category_infos(model)])


@router.get("/categories/{name}/calibration")
async def calibration(request: Request, name: Name) -> CalibrationAnswer:
    """The scores of the normal pictures that a product or class name was calibrated on (404 if none was)."""
    served = runtime_of(request.app).models.all
    for model in served:
        found = model.bundle.categories.get(name) or model.bundle.class_scores.get(canonical_name(name))
        if found:
            alpha = model.bundle.manifest.calibration.alpha
            scores: list[float] = found.scores.tolist()
            return CalibrationAnswer(
                name=found.name, model=model_ref(model.bundle), alpha=alpha, scores=scores
            )
    known = [info.name for model in served for info in category_infos(model)]
    raise Problem(Kind.UNKNOWN_CATEGORY, f"name: {shown(name)} is none of {', '.join(known)}")


@router.get("/models")
async def models(request: Request) -> ModelsAnswer:
    """Every model in service."""
    return ModelsAnswer(models=[model_info(model) for model in runtime_of(request.app).models.all])


@router.post("/models/reload", dependencies=[Depends(needs_admin)])
async def reload(request: Request) -> ModelsAnswer:
    """Load the bundles anew (admin key); the present ones serve until the new ones are warm."""
    await runtime_of(request.app).reload()
    return await models(request)


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
    spec, plan = manifest.zero_shot, model.pipeline.plan
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        digest=model.bundle.digest,
        kind=manifest.kind,
        device=model.engine.device,
        misses_gpu=model.misses_gpu,
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
