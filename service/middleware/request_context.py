"""Around every request: its id, time, log line, metrics and headers, and an answer to every error."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import MEDIA_TYPE, Problem, no_such_path, problem_answer, unexpected
from service.metrics import UNMATCHED, Metrics
from service.middleware.body import announced_bytes
from service.middleware.identity import PRINTABLE
from service.middleware.refusal_pacing import RefusalPacing
from service.scheduling.caller import ANYONE, Caller
from service.tracing import tracing

CLIENT_CLOSED_REQUEST = 499
QUIET_ENDPOINTS = frozenset({"/healthz", "/readyz", "/metrics"})
LOGGED_CHARACTERS = 200  # of a path, which may have 64 KiB, or a reason
DRAINED_BYTES = 2**20  # so much of an unread body is let in and dropped, to keep the connection
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

log = structlog.stdlib.get_logger("anomoe.request")


class Exchange:
    """A request and its answer: id, clock and stage timings; every refusal is made here, and told once.

    given_id: what the caller calls the request, if it is at most 128 printable characters without spaces.
    """

    def __init__(self, metrics: Metrics, given_id: str = "", client: str = "") -> None:
        self.trace_id = ""
        self.request_id = given_id if PRINTABLE.fullmatch(given_id) else uuid4().hex
        self.client = client
        self.started = perf_counter()
        self.timings_ms: dict[str, float] = {}
        self.status: int | None = None  # before the answer has begun
        self._metrics = metrics
        self._reason: dict[str, str] = {}

    def refusal(self, problem: Problem) -> Response:
        """The answer to a problem, which is counted; without this request's own headers."""
        self._metrics.count_problem(problem)
        self._reason["reason"] = problem.detail[:LOGGED_CHARACTERS]
        body = problem_answer(problem, self.request_id).model_dump_json()
        return Response(body, problem.kind.status, problem.headers, MEDIA_TYPE)

    def begin(self, status: int, given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The answer begins: all of its headers, with those that were given."""
        self.status = status
        stages = {**self.timings_ms, "total": self._ms()}
        timing = ", ".join([f"{name};dur={ms:.3f}" for name, ms in stages.items()])
        own = ((b"x-request-id", self.request_id.encode()), (b"server-timing", timing.encode()))
        if self.trace_id:
            own = (*own, (b"x-trace-id", self.trace_id.encode()))
        names = {name for name, _ in given}
        return [*given, *own, *[header for header in SECURITY_HEADERS if header[0] not in names]]

    def end(self, endpoint: str = UNMATCHED, method: str = "", path: str = "") -> None:
        """Count and log it: answered, or given up by the caller."""
        status, ms = self.status or CLIENT_CLOSED_REQUEST, self._ms()
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.request_seconds.labels(endpoint).observe(ms / 1000)
        tracing.answered(method, endpoint, status)
        write = log.debug if endpoint in QUIET_ENDPOINTS else log.info
        write(
            "request",
            request_id=self.request_id,
            method=method,
            path=repr(path[:LOGGED_CHARACTERS])[1:-1],  # which may be meant for a terminal
            client=self.client,
            status=status,
            ms=round(ms, 1),
            **self._reason,
        )

    def _ms(self) -> float:
        return (perf_counter() - self.started) * 1000


class RequestContext:
    """Give every answer `X-Request-ID`, `Server-Timing` and security headers; log and count it.

    A Problem raised anywhere inside becomes its answer, any other error 500. The request's state gets
    `request_id`, `started` (seconds, `perf_counter`) and `timings_ms`, which handlers fill. Metrics count by
    the path of the first of the `routes` that matches, what matches none as `unmatched`. `around` is put
    around the application and around errors, so that both get the headers of allowed origins.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: Sequence[Route], around: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        self.app = around(app)
        self.metrics = metrics
        self._routes = routes
        self._around = around
        self._bunching = RefusalPacing()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(self.metrics, headers.get("x-request-id", ""))
        scope.setdefault("state", {}).update(
            request_id=exchange.request_id, started=exchange.started, timings_ms=exchange.timings_ms
        )
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)  # of this request's own task
        is_probe = scope["path"] in QUIET_ENDPOINTS
        traced = nullcontext("") if is_probe else tracing.request(headers)
        with self.metrics.in_flight.track_inprogress(), traced as exchange.trace_id:
            if exchange.trace_id:
                structlog.contextvars.bind_contextvars(trace_id=exchange.trace_id)
            try:
                await self._answer(scope, _Connection(exchange, receive, send))
            finally:
                caller: Caller = scope["state"].get("caller", ANYONE)
                exchange.client = caller.client
                exchange.end(self._endpoint(scope), scope["method"], scope["path"])

    async def _answer(self, scope: Scope, connection: "_Connection") -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server leaves its body out
        try:
            if scope["path"].endswith("\n"):  # the patterns of routes, which end with $, would match it
                raise no_such_path(scope["path"])
            await self.app({**scope, "method": method}, connection.receive, connection.send)
        except ClientDisconnect:
            return
        except Problem as problem:
            await self._refuse(scope, connection, problem)
        except Exception as error:  # last resort: the caller gets an answer, the log a trace
            log.exception("request failed")
            await self._refuse(scope, connection, unexpected(error))

    async def _refuse(self, scope: Scope, connection: "_Connection", problem: Problem) -> None:
        if connection.exchange.status is not None:  # the answer has begun, there is no other
            return
        if "Retry-After" in problem.headers:
            self._bunching.note()
        if not connection.is_read and _announced_bytes(scope) > DRAINED_BYTES:
            problem.headers["Connection"] = "close"
        response = self._around(connection.exchange.refusal(problem))
        await response(scope, connection.receive, connection.send)

    def _endpoint(self, scope: Scope) -> str:
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE and not scope["path"].endswith("\n"):
                return route.path
        return UNMATCHED


class _Connection:
    """Whether the body of a request was read, and the headers of its answer."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self.exchange = exchange
        self.is_read = False
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = self.exchange.begin(message["status"], message["headers"])
        await self._send(message)


def _announced_bytes(scope: Scope) -> float:
    """How long a body is said to be; inf when it is only said that there is one."""
    announced = announced_bytes(scope)
    if announced is None:
        return float("inf") if "transfer-encoding" in Headers(scope=scope) else 0.0
    return announced
