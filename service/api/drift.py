"""The paths that tell of drift, and begin anew after maintenance."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from service.drift.product import ProductDrift
from service.middleware.admission import runtime_of
from service.middleware.authentication import needs_admin
from service.schemas.drift import DriftAlarm, DriftAnswer, DriftPoint, ProductDriftInfo

router = APIRouter()


@router.get("/drift")
async def drift(request: Request) -> DriftAnswer:
    """Whether the pictures of each product are what they were, and how the evidence has grown."""
    runtime = runtime_of(request.app)
    return DriftAnswer(
        pictures_between_false_alarms=runtime.settings.drift_pictures,
        stride=runtime.settings.drift_stride,
        products=[
            product_info(name, runtime.drift.model_of(digest), product)
            for digest, name, product in runtime.drift.products()
        ],
    )


@router.post("/drift/reset", dependencies=[Depends(needs_admin)])
async def reset(request: Request, category: Annotated[str | None, Query()] = None) -> DriftAnswer:
    """Begin anew with a product, or with all (admin key), once an alarm was looked into."""
    await runtime_of(request.app).drift.reset(category)
    return await drift(request)


def product_info(category: str, model: str, product: ProductDrift) -> ProductDriftInfo:
    """What the API tells about the drift of a product."""
    return ProductDriftInfo(
        category=category,
        model=model,
        pictures=product.pictures,
        statistic=product.statistic,
        alarm=DriftAlarm(**product.alarm._asdict()) if product.alarm else None,
        curve=[DriftPoint(**point._asdict()) for point in product.curve],
    )
