"""The paths for supervisors: alive, ready, metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.middleware.admission import runtime_of
from service.schemas.models import HealthAnswer

router = APIRouter()


@router.get("/healthz")
async def healthz() -> HealthAnswer:
    """Whether the process is alive."""
    return HealthAnswer(status="alive")


@router.get("/readyz")
async def readyz(request: Request) -> HealthAnswer:
    """Whether pictures can be answered; 503 when not."""
    runtime_of(request.app).health.check()
    return HealthAnswer(status="ready")


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics as Prometheus text."""
    return Response(runtime_of(request.app).metrics.render(), media_type=CONTENT_TYPE_LATEST)
