"""Awaiting a future without a trace of it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def result_of(
    future: "asyncio.Future[Result]", on_cancel: "Callable[[asyncio.Future[Result]], object]"
) -> Result:
    """What a future gives; on_cancel: called when whoever awaits it is cancelled.

    An error's traceback holds the frames of all who awaited it. None of them may hold the future, which holds
    the error: only Python's collector would find that circle, and the pictures in it, much later. So a future
    is passed to this function as it is made, and no variable of the caller's leads to it.
    """
    try:
        return await future
    except asyncio.CancelledError:
        on_cancel(future)
        raise
    finally:
        del future, on_cancel
