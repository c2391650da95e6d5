"""Requests for work: let in with a permit before their body is read, answered past the framework's layers."""

from collections.abc import Callable, Container, Coroutine, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from export.contract.manifest import ModelKind
from service.body import LimitedBody, expected_bytes
from service.bunching import Bunching
from service.caller import caller_of
from service.detect import Detector
from service.errors import Kind, Problem, from_http_exception, shown
from service.sending import send_json


class Endpoint(NamedTuple):
    """What answers a request for work, and the kind of model that it takes."""

    answer: Callable[[Request], Coroutine[Any, Any, BaseModel]]
    kind: ModelKind


def endpoints_of(router: APIRouter, kind: ModelKind) -> dict[str, Endpoint]:
    """The endpoints of a router by path: each is for POST, takes the request alone and gives the answer."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: Endpoint(route.endpoint, kind) for route in routes}


class Work:
    """Lets a request for work in, or refuses it unread; what its endpoint gives becomes JSON unchecked.

    The framework's layers, which the other requests take, would cost a busy service one picture in a hundred.
    The state of the request gets `caller`. Refusals are Problems, which `RequestContext` answers. `paths` are
    those of the application: patterns of the framework also match one with a line's end behind it, which
    nothing before them knows.
    """

    def __init__(
        self, app: ASGIApp, detector: Detector, endpoints: Mapping[str, Endpoint], paths: Container[str]
    ) -> None:
        self.app = app
        self.detector = detector
        self.settings = detector.settings
        self._endpoints, self._paths = endpoints, paths
        self._bunching = Bunching()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises: Problem (404 unknown path, 413 announced too large, 422 wrong deadline, 429, 503, 504; 400 a
        form that the framework cannot read), and whatever an endpoint raises.
        """
        if scope["type"] == "http" and scope["path"] not in self._paths:
            raise Problem(Kind.NOT_FOUND, f"no such path: {shown(scope['path'])}")
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if is_post else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        state, settings = scope["state"], self.settings
        caller = caller_of(scope, state.get("key_name"), state["started"], settings.deadline_ms)
        state["caller"] = caller
        self.detector.health.check()
        expected = expected_bytes(scope, settings.max_body_bytes)
        wait_s = self.detector.models.wait_s(endpoint.kind, caller.client)
        try:
            with self.detector.permits.hold(caller, expected, wait_s) as permit:
                limits = settings.max_body_bytes, settings.body_timeout_s
                body = LimitedBody(receive, *limits, caller, permit.cover_body)
                answer = await endpoint.answer(Request(scope, body.receive))
                await send_json(answer, send, permit.cover_answer)
        except HTTPException as error:
            raise from_http_exception(error, Request(scope)) from error
        except Problem as problem:
            if "Retry-After" in problem.headers:
                self._bunching.note()
            raise
