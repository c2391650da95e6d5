"""A transport that leaves a client which is still sending the time to read what it was answered."""

import asyncio
from typing import Any

MOST_DROPPED = 2**26  # bytes of what the client still sends


class LingeringTransport:
    """Closes in two steps while a request is under way (RFC 9112, 9.6): at first nothing is sent any more.

    A connection that is closed with unread bytes is reset, and the client loses the answer: most send all
    of a request before they read. What they send is dropped, for `patience_s` seconds and MOST_DROPPED bytes.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience_s: float
    ) -> None:
        self.patience_s = patience_s
        self.is_in_request = False  # some of which has come, and not yet all
        self._transport = transport
        self._loop = loop
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether it is closed, or lingers."""
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close, at once when it lingers already."""
        if self.is_closing() or not (self.is_in_request and self.patience_s):
            self.end()
            return
        self._timer = self._loop.call_later(self.patience_s, self.end)
        try:
            self._transport.write_eof()
            self._transport.resume_reading()
        except OSError:  # the client has gone
            self.end()

    def end(self) -> None:
        """Close at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def has_dropped(self, data: bytes) -> bool:
        """Whether what has come is for nobody any more."""
        if not self.is_closing():
            return False
        self._dropped += len(data)
        if self._dropped > MOST_DROPPED:
            self.end()
        return True
