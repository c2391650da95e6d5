"""Admission: a request gets a permit before its body is read, or is told when to come back."""

import asyncio
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from service.caller import ANYONE, Caller
from service.errors import Kind, Problem

SHARE = 4

Cover = Callable[[int], None]
"""Let a permit cover that many bytes. Raises: Problem (429) when there is no room for those it lacks."""


@dataclass
class _Held:
    requests: int = 0
    size: int = 0


class Permits:
    """At most `limit` requests with at most `byte_limit` bytes of bodies at once; for one event loop.

    A client may hold up to SHARE times what stays free, so that it stops at SHARE / (SHARE + 1) of all when
    it is alone, two of them at SHARE / (2 * SHARE + 1) each; one permit is left for a client that has none.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit = limit
        self.byte_limit = byte_limit
        self.taken = 0
        self.taken_bytes = 0
        self._held: dict[str, _Held] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def hold(
        self, caller: Caller = ANYONE, size: int = 0, wait_s: float = 0.0
    ) -> Generator[Cover, None, None]:
        """Hold the permit of a request with a body of `size` bytes; gives what lets it cover more of them.

        wait_s: seconds until its turn, as far as known. Raises: Problem (429 with Retry-After) when the
        service or the caller's share of it is full, or the turn comes after the deadline.
        """
        self._check_requests(caller, wait_s)
        self._check_bytes(caller, size, wait_s)
        if wait_s > max(0.0, caller.remaining_s):
            what = f"{self.taken} requests, {wait_s:.3f} s until a turn, past the deadline"
            raise _busy(what, wait_s)
        covered = size
        self._count(caller, 1, size)

        def cover(needed: int) -> None:
            nonlocal covered
            needed = min(needed, self.byte_limit)  # more than that may come when it is alone
            if needed > covered:
                self._check_bytes(caller, needed - covered, wait_s)
                self._count(caller, 0, needed - covered)
                covered = needed

        try:
            yield cover
        finally:
            self._count(caller, -1, -covered)

    async def all_returned(self) -> None:
        """Wait until no permit is held."""
        await self._empty.wait()

    def _check_requests(self, caller: Caller, wait_s: float) -> None:
        own = self._held_by(caller).requests
        free = self.limit - self.taken
        if not free or (own and own >= SHARE * (free - 1)):
            raise _busy(f"{own} requests of this client, {self.taken} in all, of {self.limit}", wait_s)

    def _check_bytes(self, caller: Caller, size: int, wait_s: float) -> None:
        own = self._held_by(caller).size
        free = self.byte_limit - self.taken_bytes
        if size > free or (own and own >= SHARE * free):
            what = f"{own} bytes of this client, {self.taken_bytes} in all, of {self.byte_limit}"
            raise _busy(what, wait_s)

    def _held_by(self, caller: Caller) -> _Held:
        return self._held.get(caller.client, _Held())

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


def _busy(what: str, wait_s: float) -> Problem:
    """Retry-After: when it is worth coming back, in whole seconds, at least one."""
    headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return Problem(Kind.BUSY, f"the service is working on {what}", headers)
