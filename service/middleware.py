"""Around every request: its id, its time, its log line, its metrics, and a limit on its body."""

import re
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Kind, Problem, problem_response
from service.metrics import Metrics

TOKEN = re.compile(r"[!-~]{1,128}")
CLIENT_CLOSED_REQUEST = 499
QUIET_ENDPOINTS = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.stdlib.get_logger("anomoe.request")


class RequestContext:
    """Give every answer `X-Request-ID` and `Server-Timing`; log and count it; answer crashes with 500.

    The request's state gets `request_id`, `started` (seconds, `perf_counter`) and `timings_ms`, which
    handlers fill.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        exchange = _Exchange(request_id, send)
        scope.setdefault("state", {}).update(
            request_id=request_id, started=exchange.started, timings_ms=exchange.timings_ms
        )
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            self.metrics.in_flight.track_inprogress(),
        ):
            try:
                await self._answer(scope, receive, exchange)
            finally:
                self._record(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_CLOSED_REQUEST
        except Exception as error:  # last resort: the caller gets an answer, the log a trace
            log.exception("request failed")
            if exchange.status is None:
                problem = Problem(
                    Kind.INTERNAL, f"unexpected {type(error).__name__}, see the log of the service"
                )
                await problem_response(problem, exchange.request_id)(scope, receive, exchange.send)

    def _record(self, scope: Scope, exchange: "_Exchange") -> None:
        seconds = perf_counter() - exchange.started
        status = exchange.status or CLIENT_CLOSED_REQUEST
        endpoint = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.requests.labels(endpoint, str(status)).inc()
        self.metrics.request_seconds.labels(endpoint).observe(seconds)
        write = log.debug if endpoint in QUIET_ENDPOINTS else log.info
        write(
            "request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1)
        )


class _Exchange:
    """One request's id, clock, stage timings and, once it is sent, status."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.started = perf_counter()
        self.timings_ms: dict[str, float] = {}
        self.status: int | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers["Server-Timing"] = self._server_timing()
        await self._send(message)

    def _server_timing(self) -> str:
        total_ms = (perf_counter() - self.started) * 1000
        stages = {name: ms for name, ms in self.timings_ms.items() if name != "total"}
        return ", ".join(f"{name};dur={ms:.3f}" for name, ms in {**stages, "total": total_ms}.items())


class BodyLimit:
    """Refuse a body of more than `max_bytes`: by its header, else as soon as that much has arrived.

    The 413 is raised where the handler reads, so that it is answered like every other problem; the
    connection is closed, since the rest of the body is never read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        too_large = announced.isdecimal() and float(announced) > self.max_bytes
        received = 0

        async def limited() -> Message:
            nonlocal received
            if too_large:
                raise self._problem(f"{announced} bytes were announced")
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._problem(f"at least {received} bytes were sent")
            return message

        await self.app(scope, limited, send)

    def _problem(self, what: str) -> Problem:
        detail = f"the body is too large: {what}, the limit is {self.max_bytes}"
        return Problem(Kind.TOO_LARGE, detail, {"Connection": "close"})


def request_id_of(headers: Headers) -> str:
    """The caller's request id when it is at most 128 printable characters without spaces, else a new one."""
    given = headers.get("x-request-id", "")
    return given if TOKEN.fullmatch(given) else uuid4().hex
