"""Refusals of a service that is full, past all layers: they are many, and each of them finds cold caches."""

from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from service.authentication import key_name
from service.bunching import Bunching
from service.caller import client_of
from service.detect import Detector
from service.errors import MEDIA_TYPE, Kind, Problem, problem_answer
from service.middleware import DRAINED_BYTES, SECURITY_HEADERS, request_id_of
from service.security import KeyRing
from service.work import Endpoint

SHORT_LENGTH = len(str(DRAINED_BYTES))  # digits

log = structlog.stdlib.get_logger("anomoe.request")


class _Refused(NamedTuple):
    began: float
    path: str
    client: str
    request_id: str
    problem: Problem


class Door:
    """Refuses what `Work` would refuse for want of a permit, as `RequestContext` would answer.

    The models fill the caches, so that a refusal takes as long as there is code to run. Whatever is not
    plainly such a request goes on to the application, which looks at everything again.
    """

    def __init__(
        self, app: ASGIApp, detector: Detector, endpoints: Mapping[str, Endpoint], keys: KeyRing | None
    ) -> None:
        self.app = app
        self._health, self._models = detector.health, detector.models
        self._permits = detector.permits.requests
        self._most = min(DRAINED_BYTES, detector.settings.max_body_bytes)
        self._endpoints, self._keys = endpoints, keys
        self._bunching = Bunching()
        self._log = log.bind()  # once
        metrics = detector.metrics
        self._rejected = metrics.rejected.labels(Kind.BUSY.slug)
        self._requests = {path: metrics.requests.labels(path, str(Kind.BUSY.status)) for path in endpoints}
        self._seconds = {path: metrics.request_seconds.labels(path) for path in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        refused = self._look(scope) if self._permits.is_scarce and scope["type"] == "http" else None
        if refused is None:
            await self.app(scope, receive, send)
        else:
            await self._answer(refused, send)

    def _look(self, scope: Scope) -> _Refused | None:
        path = scope["path"]
        endpoint = self._endpoints.get(path) if scope["method"] == "POST" else None
        if endpoint is None or not self._health.is_ready:
            return None
        began = perf_counter()
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # the first of several counts
        length = headers.get(b"content-length", b"")
        is_short = length.isdigit() and len(length) <= SHORT_LENGTH and int(length) <= self._most
        if not is_short or b"x-deadline-ms" in headers:
            return None

        def told(name: bytes) -> str:
            return headers.get(name, b"").decode("latin-1")

        try:
            client = client_of(scope, key_name(scope, self._keys), told(b"x-client-id"))
        except Problem:
            return None
        try:
            self._permits.check(client, 1, self._models.wait_s(endpoint.kind, client))
        except Problem as problem:
            problem.__traceback__ = None  # its frames hold the request, and by their callers itself
            return _Refused(began, path, client, request_id_of(told(b"x-request-id")), problem)
        return None

    async def _answer(self, refused: _Refused, send: Send) -> None:
        self._bunching.note()
        began, path, client, request_id, problem = refused
        status = problem.kind.status
        body = problem_answer(problem, request_id).model_dump_json().encode()
        ms = (perf_counter() - began) * 1000
        headers = [
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
            (b"content-length", str(len(body)).encode()),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"x-request-id", request_id.encode()),
            (b"server-timing", b"total;dur=%.3f" % ms),
            *SECURITY_HEADERS,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._rejected.inc()
        self._requests[path].inc()
        self._seconds[path].observe(ms / 1000)
        asked = {"request_id": request_id, "method": "POST", "path": path, "client": client}
        self._log.info("request", **asked, status=status, ms=round(ms, 1))
