"""Admission: a request gets a permit before its body is read, or is told when to come back."""

import asyncio
import math
from collections.abc import Generator
from contextlib import contextmanager

from service.errors import Kind, Problem
from service.scheduling.caller import ANYONE, Caller

SHARE = 4


class Budget:
    """At most `limit` of something at once.

    A client may hold up to SHARE times what stays free, so that it stops at SHARE / (SHARE + 1) of all when
    it is alone, two of them at SHARE / (2 * SHARE + 1) each; something is left for one that holds nothing.
    """

    def __init__(self, limit: int, unit: str) -> None:
        self.limit = limit
        self.taken = 0
        self._unit = unit
        self._held: dict[str, int] = {}

    @property
    def is_scarce(self) -> bool:
        """Whether a client that is alone may find none left for it."""
        return self.taken >= SHARE * (self.limit - self.taken - 1)

    def take(self, client: str, more: int, wait_s: float, held: int = 0) -> None:
        """Take more for a request that holds some already. Raises: as `check`."""
        self.check(client, more, wait_s, held)
        self._count(client, more)

    def check(self, client: str, more: int, wait_s: float, held: int = 0) -> None:
        """Look whether a request that holds some may take more; it may have all when it is alone.

        Raises: Problem (429) when there is no room, or the client has had its share of it.
        """
        own, free = self._held.get(client, 0), self.limit - self.taken
        if more > free or (own > held and own + more > SHARE * (free - more)):
            what = f"{own} {self._unit} of this client, {self.taken} in all, of {self.limit}"
            raise _later(Kind.BUSY, what, wait_s)

    def give_back(self, client: str, size: int) -> None:
        """What a client took is free again."""
        self._count(client, -size)

    def _count(self, client: str, more: int) -> None:
        self.taken += more
        if held := self._held.get(client, 0) + more:
            self._held[client] = held
        else:
            self._held.pop(client, None)


class Permit:
    """What one request holds of the rooms for bodies and answers; wait_s: seconds until its turn."""

    def __init__(self, client: str, wait_s: float, bodies: Budget, answers: Budget) -> None:
        self._client, self._wait_s = client, wait_s
        self._bodies, self._answers = bodies, answers
        self._held = {bodies: 0, answers: 0}

    def cover_body(self, size: int) -> None:
        """Hold the bytes of a body as far as they are known. Raises: Problem (429) without room for them."""
        self._cover(self._bodies, size)

    def cover_answer(self, size: int) -> None:
        """Hold the bytes of a large answer. Raises: Problem (429) without room for them."""
        self._cover(self._answers, size)

    def give_back(self) -> None:
        """Hold nothing any more."""
        for room, size in self._held.items():
            if size:
                room.give_back(self._client, size)

    def _cover(self, room: Budget, size: int) -> None:
        held = self._held[room]
        more = min(size, room.limit) - held  # what is larger than the room may come when it is alone
        if more > 0:
            room.take(self._client, more, self._wait_s, held)
            self._held[room] += more


class Permits:
    """At most `limit` requests at once, with `byte_limit` bytes of bodies, and as many of large answers.

    Answers have a room of their own, so that clients who take theirs slowly keep no body out.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.requests = Budget(limit, "requests")
        self.bodies = Budget(byte_limit, "bytes")
        self.answers = Budget(byte_limit, "bytes of answers")
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def taken(self) -> int:
        """How many are held."""
        return self.requests.taken

    @contextmanager
    def hold(
        self, caller: Caller = ANYONE, size: int = 0, wait_s: float = 0.0
    ) -> Generator[Permit, None, None]:
        """Hold the permit of a request with a body of `size` bytes, as far as it is announced.

        wait_s: seconds until its turn, as far as known. Raises: Problem with Retry-After: 429 when the
        service or the caller's share of it is full, 504 when the turn comes after the deadline.
        """
        self.requests.take(caller.client, 1, wait_s)
        self._empty.clear()
        permit = Permit(caller.client, wait_s, self.bodies, self.answers)
        try:
            permit.cover_body(size)
            if wait_s > max(0.0, caller.remaining_s):
                what = f"{self.taken - 1} requests, {wait_s:.3f} s until an answer, past the deadline"
                raise _later(Kind.DEADLINE, what, wait_s)
            yield permit
        finally:
            permit.give_back()
            self.requests.give_back(caller.client, 1)
            if not self.taken:
                self._empty.set()

    async def all_returned(self) -> None:
        """Wait until no permit is held."""
        await self._empty.wait()


def _later(kind: Kind, what: str, wait_s: float) -> Problem:
    """Retry-After: when it is worth coming back, in whole seconds, at least one."""
    headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return Problem(kind, f"the service is working on {what}", headers, stage="admission")
