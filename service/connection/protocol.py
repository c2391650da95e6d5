"""HTTP/1.1 connections that are closed when the headers of a request, or taking the answer, take too long."""

import asyncio
from time import perf_counter
from typing import cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.connection.lingering_close import LingeringTransport
from service.connection.write_coalescing import CoalescingTransport
from service.errors import Kind, Problem
from service.metrics import Metrics
from service.middleware.disconnect import Disconnect
from service.middleware.request_context import Exchange

MOST_HEAD_BYTES = 2**16  # of a request line and headers

log = structlog.stdlib.get_logger("anomoe.request")


class HttpProtocol(HttpToolsProtocol):
    """Waits `header_timeout_s` for request line and headers, from the connection or their first byte on.

    As long for the client to take the next part of an answer: one that never reads would keep it in memory.
    An offer to upgrade is declined: the request is answered as if it had none.
    """

    header_timeout_s: float
    metrics: Metrics
    parser: httptools.HttpRequestParser  # type: ignore[assignment]  # None only when the client has gone
    _is_in_head = True  # request line and headers are awaited, or have begun
    _head_bytes = 0  # of a request line and headers so far
    _unparsed_bytes = 0  # that came since the parser last had something whole to tell
    _declined = b""  # a head that offers to upgrade, without the offer
    _patience: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        self._lingering = LingeringTransport(transport, self.loop, self.header_timeout_s)
        self._corked = CoalescingTransport(cast("asyncio.Transport", self._lingering), self.loop)
        self._hangup: Disconnect = self.loop.create_future()
        self.app_state = {**self.app_state, "hangup": self._hangup}  # as the state of its requests begins
        super().connection_made(cast("asyncio.Transport", self._corked))
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._lingering.has_dropped(data):
            return
        self._received_at = perf_counter()
        self._corked.note_received()
        self._unparsed_bytes += len(data)
        try:
            self._parse(data)
            if self._unparsed_bytes > MOST_HEAD_BYTES:
                raise httptools.HttpParserError("too long")
        except httptools.HttpParserError as error:
            self._refuse(f"no request of HTTP/1.1: {error.__context__ or error}")
        if not self._is_in_head:
            self._stop_waiting()
        elif self._patience is None:
            self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._is_in_head = self._lingering.is_in_request = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes after the body is none."""
        if self._is_in_head:
            self._head_bytes += len(name) + len(value)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Request line and headers are there."""
        self._unparsed_bytes = 0
        self._unset_keepalive_if_required()
        if self._head_bytes + len(self.url) > MOST_HEAD_BYTES:
            raise httptools.HttpParserError("too long")
        if self.parser.should_upgrade():
            self._declined = self._head_without_upgrade()
        else:
            super().on_headers_complete()
            self._is_in_head = False

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._unparsed_bytes = 0
        self._lingering.is_in_request = False
        if not self._declined:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._lingering.end()
        self._stop_waiting()
        self._stop_watching()
        self._hangup.set_result(None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is written."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        self._stop_watching()
        super().resume_writing()

    def shutdown(self) -> None:
        """The service is stopping: it waits for no client that has its answer."""
        self._lingering.patience_s = 0
        super().shutdown()

    def on_response_complete(self) -> None:
        """An answer was handed to the transport, which may have to wait for the client."""
        self._corked.flush()
        super().on_response_complete()
        self._watch_taking()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._declined + data[offer.args[0] :]
                self._declined = b""
                self.parser = httptools.HttpRequestParser(self)  # the other one is over where nothing is kept
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT asks for a proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, why: str) -> None:
        """Answer like every other error, once nobody waits for an earlier answer; then it is over."""
        is_answered = not self.cycle or self.cycle.response_complete
        if not is_answered and (self._is_in_head or self.cycle.response_started or self.pipeline):
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self._is_in_head or not is_answered:
            self._send_problem(Problem(Kind.MALFORMED, why, {"Connection": "close"}))
        self.transport.close()
        if not is_answered:  # nobody waits any more for what the request asked
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _send_problem(self, problem: Problem) -> None:
        exchange = Exchange(self.metrics, client=f"address {self.client[0]}" if self.client else "")
        exchange.started = self._received_at
        response = exchange.refusal(problem)
        headers = exchange.begin(response.status_code, response.raw_headers)
        lines = b"".join(b"%b: %b\r\n" % one for one in [*self.server_state.default_headers, *headers])
        self.transport.write(STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body))
        exchange.end()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self._patience = None
            self._lingering.end()
        else:  # an earlier request's answer is under way
            self._wait()

    def _watch_taking(self) -> None:
        self._stop_watching()
        if left := self.transport.get_write_buffer_size():
            self._taking = self.loop.call_later(self.header_timeout_s, self._check_taking, left)

    def _check_taking(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._watch_taking()
        else:
            log.warning("answer not taken", client=f"address {self.client[0]}" if self.client else "")
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def protocol_class(header_timeout_s: float, metrics: Metrics) -> type[HttpProtocol]:
    """The protocol with a timeout, as uvicorn takes it: a class."""
    given = {"header_timeout_s": header_timeout_s, "metrics": metrics}
    return type("Protocol", (HttpProtocol,), given)
