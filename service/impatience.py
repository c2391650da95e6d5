"""HTTP/1.1 connections that are closed when the headers of a request, or taking the answer, take too long."""

import asyncio
from typing import cast
from uuid import uuid4

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.corked import Corked
from service.errors import Kind, Problem, problem_response


class ImpatientProtocol(H11Protocol):
    """Waits `header_timeout_s` for request line and headers, from the connection or their first byte on.

    As long for the client to take the next part of an answer: one that never reads would keep it in memory.
    """

    header_timeout_s: float
    _patience: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        self._corked = Corked(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._corked))
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer was handed to the transport, which may have to wait for the client."""
        self._corked.flush()
        super().on_response_complete()
        self._watch_taking()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP; the answer looks like every other error, unless one has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = problem_response(Problem(Kind.MALFORMED, msg), request_id := uuid4().hex)
            headers = [
                *response.raw_headers,
                (b"x-request-id", request_id.encode()),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=response.status_code, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self.transport.close()

    def _watch_taking(self) -> None:
        self._stop_watching()
        if left := self.transport.get_write_buffer_size():
            self._taking = self.loop.call_later(self.header_timeout_s, self._check_taking, left)

    def _check_taking(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._watch_taking()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def impatient(header_timeout_s: float) -> type[ImpatientProtocol]:
    """The protocol with a timeout, as uvicorn takes it: a class."""
    return type("Protocol", (ImpatientProtocol,), {"header_timeout_s": header_timeout_s})
