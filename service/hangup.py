"""Work for a caller who may hang up: then it is cancelled, so that nobody computes for no one."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from anyio import CancelScope
from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")


async def until_hangup(request: Request, work: Awaitable[Result]) -> Result:
    """Await the work; the body of the request must have been read.

    Raises: ClientDisconnect when the caller hangs up first; whatever the work raises.
    """
    with CancelScope() as scope:
        hangup = asyncio.create_task(_hangup(request))
        hangup.add_done_callback(lambda _: scope.cancel())
        try:
            return await work
        finally:
            hangup.cancel()
    raise ClientDisconnect


async def _hangup(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
