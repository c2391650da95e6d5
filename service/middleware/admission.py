"""Paths for work: a request is let in with a permit before its body is read."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from export.contract.manifest import ModelKind
from service.middleware.body import LimitedBody, expected_bytes
from service.middleware.identity import caller_of
from service.models.runtime import Runtime
from service.scheduling.caller import Caller


class Admission(NamedTuple):
    """What a request asks for: body_bytes: as announced; wait_s: seconds until its turn."""

    caller: Caller
    body_bytes: int
    wait_s: float


class WorkRoute(APIRoute):
    """A path whose requests hold a permit from before their body is read until their answer is sent.

    What is work is thereby decided by the route that the framework has matched, never by the text of a path.
    kind: of the models that it takes.
    """

    kind: ClassVar[ModelKind]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its state gets `caller`, and `permit` to cover a large answer with.

        Raises: Problem (413 announced too large, 422 wrong deadline, 429, 503, 504), and what the endpoint
        raises.
        """
        if scope["method"] not in self.methods:
            await super().handle(scope, receive, send)
            return
        runtime = runtime_of(scope["app"])
        settings = runtime.settings
        caller, body_bytes, wait_s = admission_of(scope, runtime, self.kind)
        with runtime.permits.hold(caller, body_bytes, wait_s) as permit:
            scope["state"]["permit"] = permit
            limits = settings.max_body_bytes, settings.body_timeout_s
            body = LimitedBody(receive, *limits, caller, permit.cover_body)
            await super().handle(scope, body.receive, send)


def work_router(kind: ModelKind) -> APIRouter:
    """A router whose paths are for work with models of a kind."""
    return APIRouter(route_class=type("WorkRoute", (WorkRoute,), {"kind": kind}))


def kinds_of(routes: Iterable[BaseRoute]) -> Mapping[tuple[str, str], ModelKind]:
    """The kind of model by method and path, of paths for work without parameters."""
    work = [route for route in routes if isinstance(route, WorkRoute) and not route.param_convertors]
    return {(method, route.path): route.kind for route in work for method in route.methods or ()}


def runtime_of(app: FastAPI) -> Runtime:
    """The runtime of an application."""
    runtime = app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def admission_of(scope: Scope, runtime: Runtime, kind: ModelKind) -> Admission:
    """Who asks for what, as far as it is known before the body; the state of the request gets `caller`.

    Raises: Problem (413 announced too large, 422 wrong deadline, 503).
    """
    state, settings = scope["state"], runtime.settings
    key_name = state["key"].name if state["key"] else None
    state["caller"] = caller = caller_of(scope, key_name, state["started"], settings.deadline_ms)
    runtime.health.check()
    body_bytes = expected_bytes(scope, settings.max_body_bytes)
    return Admission(caller, body_bytes, runtime.models.wait_s(kind, caller.client))
