"""Around every request: its id, time, log line, metrics and headers, and an answer to every error."""

from collections.abc import Callable, Container
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.body import announced_bytes
from service.caller import ANYONE, PRINTABLE, Caller
from service.errors import Problem, problem_response, unexpected
from service.metrics import UNMATCHED, Metrics

CLIENT_CLOSED_REQUEST = 499
QUIET_ENDPOINTS = frozenset({"/healthz", "/readyz", "/metrics"})
LOGGED_CHARACTERS = 200  # of a path, which may have 64 KiB
DRAINED_BYTES = 2**20  # so much of an unread body is let in and dropped, to keep the connection
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

log = structlog.stdlib.get_logger("anomoe.request")


class RequestContext:
    """Give every answer `X-Request-ID`, `Server-Timing` and security headers; log and count it.

    A Problem raised anywhere inside becomes its answer, any other error 500. The request's state gets
    `request_id`, `started` (seconds, `perf_counter`) and `timings_ms`, which handlers fill. `paths` are those
    of the application; metrics count what asks for another as `unmatched`. `around` is put around the
    application and around errors, so that both get the headers of allowed origins.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, paths: Container[str], around: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        self.app = around(app)
        self.metrics = metrics
        self._paths = paths
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get("x-request-id", ""))
        exchange = _Exchange(request_id, receive, send)
        scope.setdefault("state", {}).update(
            request_id=request_id, started=exchange.started, timings_ms=exchange.timings_ms
        )
        structlog.contextvars.bind_contextvars(request_id=request_id)  # of this request's own task
        with self.metrics.in_flight.track_inprogress():
            try:
                await self._answer(scope, exchange)
            finally:
                self._record(scope, exchange)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server leaves its body out
        try:
            await self.app({**scope, "method": method}, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_CLOSED_REQUEST
        except Problem as problem:
            self.metrics.count_problem(problem)
            await self._refuse(scope, exchange, problem)
        except Exception as error:  # last resort: the caller gets an answer, the log a trace
            log.exception("request failed")
            await self._refuse(scope, exchange, unexpected(error))

    async def _refuse(self, scope: Scope, exchange: "_Exchange", problem: Problem) -> None:
        if exchange.status is not None:  # the answer has begun, there is no other
            return
        unread = 0.0 if exchange.is_read else announced_bytes(scope)
        if unread is None:
            unread = float("inf") if "transfer-encoding" in Headers(scope=scope) else 0.0
        if unread > DRAINED_BYTES:
            problem.headers["Connection"] = "close"
        response = self._around(problem_response(problem, exchange.request_id))
        await response(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, exchange: "_Exchange") -> None:
        seconds = perf_counter() - exchange.started
        status = exchange.status or CLIENT_CLOSED_REQUEST
        caller: Caller = scope["state"].get("caller", ANYONE)
        endpoint = scope["path"] if scope["path"] in self._paths else UNMATCHED
        self.metrics.requests.labels(endpoint, str(status)).inc()
        self.metrics.request_seconds.labels(endpoint).observe(seconds)
        write = log.debug if endpoint in QUIET_ENDPOINTS else log.info
        write(
            "request",
            method=scope["method"],
            path=repr(scope["path"][:LOGGED_CHARACTERS])[1:-1],  # which may be meant for a terminal
            client=caller.client,
            status=status,
            ms=round(seconds * 1000, 1),
        )


class _Exchange:
    """One request's id, clock and stage timings; once it is sent its status; whether its body was read."""

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self.request_id = request_id
        self.started = perf_counter()
        self.timings_ms: dict[str, float] = {}
        self.status: int | None = None
        self.is_read = False
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [
                (b"x-request-id", self.request_id.encode()),
                (b"server-timing", self._server_timing().encode()),
            ]
            given = {name for name, _ in message["headers"]}
            missing = [header for header in SECURITY_HEADERS if header[0] not in given]
            message["headers"] = [*message["headers"], *own, *missing]
        await self._send(message)

    def _server_timing(self) -> str:
        total_ms = (perf_counter() - self.started) * 1000
        stages = {name: ms for name, ms in self.timings_ms.items() if name != "total"}
        return ", ".join(f"{name};dur={ms:.3f}" for name, ms in {**stages, "total": total_ms}.items())


def request_id_of(given: str) -> str:
    """The caller's request id when it is at most 128 printable characters without spaces, else a new one."""
    return given if PRINTABLE.fullmatch(given) else uuid4().hex
