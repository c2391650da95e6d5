"""A transport with fewer system calls: an answer is sent in one piece, reading seldom has to be paused."""

import asyncio
from typing import Any


class CoalescingTransport:
    """Holds what is written until `flush`, or until the event loop's present step is over.

    Reading is paused once more has come than should have: a picture that came in one piece has no more.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._should_pause = self._is_paused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send soon."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def flush(self) -> None:
        """Send what is held now."""
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def pause_reading(self) -> None:
        """Read no more than comes next."""
        self._should_pause = True

    def resume_reading(self) -> None:
        """Read again."""
        if self._is_paused:
            self._transport.resume_reading()
        self._should_pause = self._is_paused = False

    def note_received(self) -> None:
        """Something has come."""
        if self._should_pause and not self._is_paused:
            self._transport.pause_reading()
            self._is_paused = True
