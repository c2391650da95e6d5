"""What endpoints take from the application and the request."""

from fastapi import FastAPI, Request

from service.detection.anomalymoe import DetectionService
from service.detection.request import Trace


def trace_of(request: Request) -> Trace:
    """The id, begin and caller of a request, as the middleware left them."""
    return Trace(request.state.request_id, request.state.started, request.state.caller)


def detection_of(app: FastAPI) -> DetectionService:
    """What answers pictures in an application."""
    service = app.state.detection
    assert isinstance(service, DetectionService)
    return service
