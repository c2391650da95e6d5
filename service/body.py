"""A limit on the bytes of a body, and on the time it takes to come."""

from time import perf_counter

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from service.caller import Caller
from service.errors import Kind, Problem


class LimitedBody:
    """A body of at most `max_bytes`, refused by its header, else as soon as more has arrived.

    So is one that is not there after `timeout_s` or at the caller's deadline. The Problem is raised where the
    handler reads; the connection is closed, since the rest of the body is never read. `most_bytes` is what
    it may take: as announced, else as many as are allowed.

    Raises: Problem (413) when more than `max_bytes` are announced.
    """

    def __init__(
        self, scope: Scope, receive: Receive, max_bytes: int, timeout_s: float, caller: Caller
    ) -> None:
        announced = announced_bytes(scope)
        if announced is not None and announced > max_bytes:
            raise _too_large(f"{announced:.0f} bytes were announced", max_bytes)
        self.most_bytes = max_bytes if announced is None else int(announced)
        self._receive = receive
        self._max_bytes = max_bytes
        self._received = 0
        self._is_whole = False
        self._timeout_s = timeout_s
        self._caller = caller
        self._latest = perf_counter() + timeout_s

    async def receive(self) -> Message:
        """The next message of the body, and after its end whatever comes.

        Raises: Problem (408 too slow, 413 too large, 504).
        """
        if self._is_whole:
            return await self._receive()
        message = await self._in_time()
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._received > self._max_bytes:
            raise _too_large(f"at least {self._received} bytes were sent", self._max_bytes)
        return message

    async def _in_time(self) -> Message:
        remaining_s = min(self._latest - perf_counter(), self._caller.remaining_s)
        with move_on_after(remaining_s):
            return await self._receive()
        self._caller.check("the body was there")
        detail = f"{self._received} bytes of the body came in {self._timeout_s:g} s, the longest allowed"
        raise Problem(Kind.TOO_SLOW, detail, {"Connection": "close"})


def announced_bytes(scope: Scope) -> float | None:
    """What `Content-Length` says, if anything."""
    announced = Headers(scope=scope).get("content-length", "")
    return float(announced) if announced.isdecimal() else None


def _too_large(what: str, max_bytes: int) -> Problem:
    detail = f"the body is too large: {what}, the limit is {max_bytes}"
    return Problem(Kind.TOO_LARGE, detail, {"Connection": "close"})
