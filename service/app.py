"""The application: models, routes, middleware and error answers put together."""

import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from time import time
from types import FrameType

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from service.api import docs
from service.api.detect import router, work
from service.api.openapi import PROBLEMS, with_keys
from service.api.upload import keep_forms_in_memory
from service.api.zero_shot import work as zero_shot_work
from service.api_keys import open_keys
from service.connection.server import Server
from service.detection.anomalymoe import Detector
from service.detection.moeclip import ZeroShotDetector
from service.errors import Problem, from_http_exception, wrong_parameters
from service.images.decode import lift_pixel_limit
from service.logging import configure_logging
from service.metrics import Metrics
from service.middleware.admission import kinds_of
from service.middleware.authentication import Authentication, open_paths
from service.middleware.load_shedding import Door
from service.middleware.request_context import RequestContext
from service.middleware.root_path import RootPath
from service.models.registry import Models, load_models
from service.process import allow_many_connections, give_back_large_blocks
from service.settings import Settings, ineffective_settings

log = structlog.stdlib.get_logger("anomoe.app")

# How long a thread may keep the interpreter from others. Python's own 5 ms are longer than most of what any
# does there; one that only wants to start a graph leaves a core idle while it waits.
SWITCH_INTERVAL_S = 0.0001

GARBAGE_OBJECTS = 10_000  # new ones are looked through for cycles, of which requests leave few, at so many

RECEIVED_BYTES = 2**19  # that the system keeps for a connection; it would begin with much less

DESCRIPTION = """Visual anomaly detection with a mixture of experts.

A request for work may carry `X-Deadline-Ms`: the milliseconds in which its answer is of use. No stage
is begun after them, and the answer is 504. `X-Client-ID` tells cameras apart that have no keys of their own:
they take turns. `X-Request-ID` comes back, and is in the log."""


def create_app(settings: Settings, models: Models, metrics: Metrics) -> FastAPI:
    """The service over models that are loaded; it computes while its lifespan lasts.

    Raises: KeyFileError when the file of API keys cannot be used.
    """
    detector = Detector(settings, models, metrics)
    keys = open_keys(settings.api_keys_file, required=settings.require_keys)
    prefix = settings.root_path.rstrip("/")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        lift_pixel_limit()
        keep_forms_in_memory()
        async with detector.running():
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
    )
    if keys:
        describe = app.openapi
        app.openapi = lambda: with_keys(describe(), open_paths(settings.metrics_need_key))
    app.state.detector = detector
    app.state.zero_shot = ZeroShotDetector(detector)
    routers = (work, zero_shot_work, router, docs.router)
    for one in routers:
        app.include_router(one, responses=PROBLEMS)
    routes = [route for group in (*routers, app) for route in group.routes if isinstance(route, Route)]
    # From the inside to the outside: what is added last sees a request first.
    app.add_middleware(Door, detector=detector, kinds=kinds_of(routes))
    app.add_middleware(Authentication, keys=keys, metrics_need_key=settings.metrics_need_key)
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


def run(settings: Settings) -> int:
    """Load the models, then listen until a signal stops the process; gives the exit code.

    What was accepted is answered first. Raises: BundleError or GraphError for a bad bundle, KeyFileError for
    a bad file of keys, OSError for a missing bundle or a taken port.
    """
    configure_logging(settings.log_level)
    for reason in ineffective_settings():
        log.warning(reason)
    if open_keys(settings.api_keys_file, required=settings.require_keys) is None:
        log.warning("no API keys: whoever reaches this address may ask", setting="ANOMOE_API_KEYS_FILE")
    gc.freeze()  # what was imported stays: looking through it now and then would stop every thread for 20 ms
    gc.set_threshold(GARBAGE_OBJECTS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    give_back_large_blocks()
    allow_many_connections()
    signal.signal(signal.SIGTERM, _leave)
    if hasattr(signal, "SIGHUP"):  # asks for a reload, of what is only being loaded
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    metrics = Metrics()
    app = create_app(settings, load_models(settings, metrics), metrics)
    server = Server(app, app.state.detector)
    with listen(settings.host, settings.port) as listener:
        log.info("listening", host=settings.host, port=listener.getsockname()[1])
        server.run([listener])
    if server.force_exit:  # a thread may hang in a library that would not let the interpreter end
        os._exit(server.exit_code)
    return server.exit_code


def _leave(_: int, __: FrameType | None) -> None:
    """SIGTERM while nothing is accepted yet."""
    sys.exit(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send what they have at once. Raises OSError for a port that is taken.

    asyncio asks for that only on sockets made with TCP's number, which this one is not; without it the body
    of an answer waits up to 40 ms for its headers to be acknowledged. A picture that fits into their buffer
    comes in one piece, so that the event loop is woken once for it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit both
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
    return listener
