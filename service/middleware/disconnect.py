"""Work for a caller who may hang up: then it is cancelled, so that nobody computes for no one."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from anyio import CancelScope
from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")

Disconnect = asyncio.Future[None]
"""Done once a connection is over; `HttpProtocol` leaves it in the state of its requests."""


async def until_disconnect(request: Request, work: Awaitable[Result]) -> Result:
    """Await the work. Without a `Disconnect` in the state of the request, nobody tells.

    Raises: ClientDisconnect when the caller hangs up first; whatever the work raises.
    """
    hangup: Disconnect | None = getattr(request.state, "hangup", None)
    if hangup is None:
        return await work
    with CancelScope() as scope:

        def cancel(_: Disconnect) -> None:
            scope.cancel()

        hangup.add_done_callback(cancel)
        try:
            return await work
        finally:
            hangup.remove_done_callback(cancel)
    raise ClientDisconnect
