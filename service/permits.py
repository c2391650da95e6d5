"""Admission: a request gets a permit before its body is read, or is told when to come back."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from service.caller import ANYONE, Caller
from service.errors import Kind, Problem
from service.pace import Pace

SHARE = 4


@dataclass
class Permit:
    """What one request holds; `is_answered` tells that it was worked on to the end."""

    size: int
    is_answered: bool = False


@dataclass
class _Held:
    requests: int = 0
    size: int = 0


class Permits:
    """At most `limit` requests with at most `byte_limit` bytes of bodies at once; for one event loop.

    A client may hold up to SHARE times what is free, so that it stops at SHARE / (SHARE + 1) of all when it
    is alone, two of them at SHARE / (2 * SHARE + 1) each, and something is always free for one more.
    """

    def __init__(self, limit: int, byte_limit: int, pace: Pace) -> None:
        self.limit = limit
        self.byte_limit = byte_limit
        self.pace = pace
        self.taken = 0
        self.taken_bytes = 0
        self._held: dict[str, _Held] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def hold(self, caller: Caller = ANYONE, size: int = 0) -> Generator[Permit, None, None]:
        """Hold the permit of a request with a body of `size` bytes.

        Raises: Problem (429 with Retry-After) when the service or the caller's share of it is full, or the
        answer could not be there before the deadline.
        """
        self._check(caller, size)
        permit = Permit(size)
        if not self.taken:
            self.pace.begin()
        self._count(caller, 1, size)
        try:
            yield permit
        finally:
            self._count(caller, -1, -size)
            if permit.is_answered:
                self.pace.answered()

    async def all_returned(self) -> None:
        """Wait until no permit is held."""
        await self._empty.wait()

    def _check(self, caller: Caller, size: int) -> None:
        held = self._held.get(caller.client, _Held())
        free, free_bytes = self.limit - self.taken, self.byte_limit - self.taken_bytes
        if held.requests >= SHARE * free or not free:
            what = f"{held.requests} requests of this client, {self.taken} in all, of {self.limit}"
            raise self._busy(held, what)
        if size > free_bytes or (held.size and held.size >= SHARE * free_bytes):
            what = f"{held.size} bytes of this client, {self.taken_bytes} in all, of {self.byte_limit}"
            raise self._busy(held, what)
        wait_s = self.pace.wait_s(self._ahead(held))
        if wait_s > max(0.0, caller.remaining_s):
            raise self._busy(held, f"{self.taken} requests, {wait_s:.3f} s until a turn, past the deadline")

    def _ahead(self, held: _Held) -> int:
        """Requests answered before the client's next one: all, or what clients taking turns leave of them."""
        return min(self.taken, (held.requests + 1) * len(self._held))

    def _busy(self, held: _Held, what: str) -> Problem:
        headers = {"Retry-After": self.pace.retry_after(self._ahead(held))}
        return Problem(Kind.BUSY, f"the service is working on {what}", headers)

    def _count(self, caller: Caller, requests: int, size: int) -> None:
        self.taken += requests
        self.taken_bytes += size
        held = self._held.setdefault(caller.client, _Held())
        held.requests += requests
        held.size += size
        if not held.requests:
            del self._held[caller.client]
        if self.taken:
            self._empty.clear()
        else:
            self._empty.set()
