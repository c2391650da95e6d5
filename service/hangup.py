"""Work for a caller who may hang up: then it is cancelled, so that nobody computes for no one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")


async def until_hangup(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await the work; the body of the request must have been read.

    Raises: ClientDisconnect when the caller hangs up first; whatever the work raises.
    """
    task = asyncio.create_task(work)
    hangup = asyncio.create_task(_hangup(request))
    try:
        await asyncio.wait((task, hangup), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        hangup.cancel()
        await asyncio.gather(task, hangup, return_exceptions=True)


async def _hangup(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
