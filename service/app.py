"""The application: models, routes, middleware and error answers put together."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from time import time

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.detect import Detector
from service.errors import Problem, from_http_exception, problem_response
from service.logging import configure_logging
from service.metrics import Metrics
from service.middleware import BodyLimit, RequestContext
from service.models import Models, load_models
from service.routes import router
from service.settings import Settings
from service.zero_shot.detector import ZeroShotDetector
from service.zero_shot.routes import router as zero_shot_router

log = structlog.stdlib.get_logger("anomoe.app")

DESCRIPTION = "Visual anomaly detection with a mixture of experts."


def create_app(settings: Settings, models: Models, metrics: Metrics) -> FastAPI:
    """The service over models that are loaded; it computes while its lifespan lasts."""
    detector = Detector(settings, models, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        async with detector.running():
            log.info("ready", after_s=round(time() - settings.started_at, 1))
            yield

    app = FastAPI(title="anomoe", version=version("anomoe"), description=DESCRIPTION, lifespan=lifespan)
    app.state.detector = detector
    app.state.zero_shot = ZeroShotDetector(detector)
    app.include_router(router)
    app.include_router(zero_shot_router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestContext, metrics=metrics)  # added last, so outermost

    async def on_problem(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, Problem)
        metrics.count_problem(problem)
        return problem_response(problem, request.state.request_id)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(from_http_exception(error, request), request.state.request_id)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    return app


def run(settings: Settings) -> None:
    """Load the models, then listen until a signal stops the process; requests under way are answered.

    Raises: BundleError or GraphError for a bad bundle, OSError for a missing bundle or a taken port.
    """
    configure_logging(settings.log_level)
    metrics = Metrics()
    app = create_app(settings, load_models(settings, metrics), metrics)
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None))
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with (
        socket.create_server((settings.host, settings.port), family=family) as listener,
        suppress(KeyboardInterrupt),
    ):
        log.info("listening", host=settings.host, port=listener.getsockname()[1])
        server.run([listener])
