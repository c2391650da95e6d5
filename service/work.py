"""Requests for work, past the framework's layers: they would cost a busy service one picture in a hundred."""

from collections.abc import Callable, Container, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import from_http_exception

Endpoint = Callable[[Request], Coroutine[Any, Any, BaseModel]]


def endpoints_of(*routers: APIRouter) -> dict[str, Endpoint]:
    """The endpoints of routers by path: each is for POST, takes the request alone and gives the answer."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: route.endpoint for route in routes}


class Work:
    """Calls the endpoints of work itself, whose models become JSON unchecked; the rest is the framework's."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self.app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises: Problem, also of a form that the framework cannot read, and whatever an endpoint raises.
        """
        if not is_work(scope, self._endpoints):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            answer = await self._endpoints[scope["path"]](request)
        except HTTPException as error:
            raise from_http_exception(error, request) from error
        await Response(answer.model_dump_json(), media_type="application/json")(scope, receive, send)


def is_work(scope: Scope, paths: Container[str]) -> bool:
    """Whether a connection asks for work, which is at these paths."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in paths
