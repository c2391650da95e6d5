"""A limit on the bytes of a body, and on the time it takes to come."""

from collections.abc import Callable
from time import perf_counter

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from service.errors import Kind, Problem
from service.scheduling.caller import Caller


class LimitedBody:
    """A body that is refused as soon as more than `max_bytes` have come, or `cover` refuses what has.

    So is one that is not there after `timeout_s` or at the caller's deadline. The Problem is raised where the
    handler reads; the connection is closed, since the rest of the body is never read.
    """

    def __init__(
        self, receive: Receive, max_bytes: int, timeout_s: float, caller: Caller, cover: Callable[[int], None]
    ) -> None:
        self._receive = receive
        self._cover = cover
        self._max_bytes = max_bytes
        self._received = 0
        self._is_whole = False
        self._timeout_s = timeout_s
        self._caller = caller
        self._latest = perf_counter() + timeout_s

    async def receive(self) -> Message:
        """The next message of the body, and after its end whatever comes.

        Raises: Problem (408 too slow, 413 too large, 504), and what `cover` raises.
        """
        if self._is_whole:
            return await self._receive()
        message = await self._in_time()
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._received > self._max_bytes:
            raise _too_large(f"at least {self._received} bytes were sent", self._max_bytes)
        self._cover(self._received)
        return message

    async def _in_time(self) -> Message:
        remaining_s = min(self._latest - perf_counter(), self._caller.remaining_s)
        with move_on_after(remaining_s):
            return await self._receive()
        self._caller.check("the body was there", "body")
        detail = f"{self._received} bytes of the body came in {self._timeout_s:g} s, the longest allowed"
        raise Problem(Kind.TOO_SLOW, detail, {"Connection": "close"})


def announced_bytes(scope: Scope) -> float | None:
    """What `Content-Length` says, if anything."""
    announced = Headers(scope=scope).get("content-length", "")
    return float(announced) if announced.isdecimal() else None


def expected_bytes(scope: Scope, max_bytes: int) -> int:
    """The length of the body, 0 when it is not announced.

    Raises: Problem (413) when more than `max_bytes` are announced.
    """
    announced = announced_bytes(scope) or 0
    if announced > max_bytes:
        raise _too_large(f"{announced:.0f} bytes were announced", max_bytes)
    return int(announced)


def _too_large(what: str, max_bytes: int) -> Problem:
    detail = f"the body is too large: {what}, the limit is {max_bytes}"
    return Problem(Kind.TOO_LARGE, detail, {"Connection": "close"})
