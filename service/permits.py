"""Admission: a picture gets a permit before any work is spent on it, or the caller is told to come back."""

from collections.abc import Generator
from contextlib import contextmanager

from service.errors import Kind, Problem

RETRY_AFTER_S = 1


class Permits:
    """At most `limit` pictures between decoding and answer; used from the event loop only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @contextmanager
    def hold(self) -> Generator[None, None, None]:
        """Hold one permit.

        Raises: Problem (429 with Retry-After) when none is left.
        """
        if self.taken >= self.limit:
            detail = f"{self.taken} pictures are being worked on, the limit is {self.limit}"
            raise Problem(Kind.BUSY, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
