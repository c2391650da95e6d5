"""The application: models, routes, middleware and error answers put together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from time import time

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from service.api import docs, drift, page, probes
from service.api import models as model_routes
from service.api.detect import work
from service.api.feedback import work as feedback_work
from service.api.openapi import PROBLEMS, with_keys
from service.api.upload import keep_forms_in_memory
from service.api.zero_shot import work as zero_shot_work
from service.api_keys import open_keys
from service.detection.anomalymoe import DetectionService
from service.detection.feedback import FeedbackStore
from service.detection.moeclip import ZeroShotService
from service.errors import Problem, wrong_parameters
from service.images.decode import lift_pixel_limit
from service.metrics import Metrics
from service.middleware.admission import kinds_of
from service.middleware.authentication import Authentication, open_paths
from service.middleware.load_shedding import LoadShedding
from service.middleware.problems import from_http_exception
from service.middleware.request_context import RequestContext
from service.middleware.root_path import RootPath
from service.models.registry import ModelRegistry
from service.models.runtime import Runtime
from service.settings import Settings

log = structlog.stdlib.get_logger("anomoe.app")


DESCRIPTION = """Visual anomaly detection with a mixture of experts.

A request for work may carry `X-Deadline-Ms`: the milliseconds in which its answer is of use. No stage
is begun after them, and the answer is 504. `X-Client-ID` tells cameras apart that have no keys of their own:
they take turns. `X-Request-ID` comes back, and is in the log."""


def create_app(settings: Settings, models: ModelRegistry, metrics: Metrics) -> FastAPI:
    """The service over models that are loaded; it computes while its lifespan lasts.

    Raises: KeyFileError when the file of API keys cannot be used, OSError when feedback_dir cannot be made.
    """
    runtime = Runtime(settings, models, metrics)
    keys = open_keys(settings.api_keys_file, required=settings.require_keys)
    prefix = settings.root_path.rstrip("/")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        lift_pixel_limit()
        keep_forms_in_memory()
        async with runtime.running():
            log.info("ready", after_s=round(time() - settings.started_at, 1))
            yield

    app = FastAPI(
        title="anomoe",
        version=version("anomoe"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages take their scripts from another host
        redoc_url=None,
        servers=[{"url": prefix}] if prefix else None,
        redirect_slashes=False,  # to an address made of what the caller calls this host
        telemetry={"tracing": False, "metrics": False, "logs": False},  # which service.tracing does
    )
    open_to_all = open_paths(settings.metrics_need_key, (*docs.PATHS, *page.PATHS))
    if keys:
        describe = app.openapi
        app.openapi = lambda: with_keys(describe(), open_to_all)
    app.state.runtime = runtime
    app.state.detection = DetectionService(runtime)
    app.state.zero_shot = ZeroShotService(runtime)
    folder = settings.feedback_dir
    app.state.feedback = FeedbackStore(folder, settings.feedback_bytes) if folder else None
    works = (work, zero_shot_work, feedback_work)
    routers = (*works, model_routes.router, drift.router, probes.router, docs.router, page.router)
    for one in routers:
        app.include_router(one, responses=PROBLEMS)
    routes = [route for group in (*routers, app) for route in group.routes if isinstance(route, Route)]
    metrics.expect_endpoints(route.path for route in routes)
    # From the inside to the outside: what is added last sees a request first.
    app.add_middleware(LoadShedding, runtime=runtime, kinds=kinds_of(routes))
    app.add_middleware(Authentication, keys=keys, open_to_all=open_to_all)
    app.add_middleware(RequestContext, metrics=metrics, routes=routes, around=_allowing(settings))
    if prefix:
        app.add_middleware(RootPath, prefix=prefix, paths=frozenset(route.path for route in routes))
    app.add_exception_handler(HTTPException, _raise_problem)
    app.add_exception_handler(RequestValidationError, _raise_problem)
    return app


async def _raise_problem(request: Request, error: Exception) -> Response:
    """What the framework would answer itself is answered like every other error. Raises: Problem."""
    if isinstance(error, RequestValidationError):
        raise wrong_parameters(error.errors()) from None
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem | ClientDisconnect):  # met while the framework read a body
        raise error.__cause__
    raise from_http_exception(error, request) from None


def _allowing(settings: Settings) -> Callable[[ASGIApp], ASGIApp]:
    """What lets pages of the allowed origins have the answers of an application."""
    origins = settings.allowed_origins()
    if not origins:
        return lambda app: app
    told = ["Retry-After", "Server-Timing", "X-Request-ID"]
    return partial(
        CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=told
    )
