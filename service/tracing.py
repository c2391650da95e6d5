"""Traces for OpenTelemetry: nothing is imported, and nothing done, until `start` is called."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import time_ns
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

SERVICE = "anomoe"
MISSING = "ANOMOE_OTEL is set, but the extra `otel` is not installed: pip install 'anomoe[otel]'"


class Timed(Protocol):
    """What a model gives, with the milliseconds of each of its parts."""

    @property
    def timings_ms(self) -> Mapping[str, float]:
        """By part, in order."""
        ...


class Tracing:
    """The spans of a process: one for each request, and in it one for each thing that it waits for."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None

    def start(self, processor: SpanProcessor | None = None) -> None:
        """Send spans where OTEL_EXPORTER_OTLP_ENDPOINT says, or to a processor of one's own.

        Raises: OSError when the packages are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError as error:
            raise OSError(MISSING) from error
        name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
        provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer(SERVICE)

    def stop(self) -> None:
        """Make no more spans."""
        self._tracer = None

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Generator[str, None, None]:
        """The span of a request, which goes on with its caller's trace; gives the id of the trace."""
        if self._tracer is None:
            yield ""
            return
        from opentelemetry import propagate, trace  # noqa: PLC0415

        context = propagate.extract(headers)
        with self._tracer.start_as_current_span("request", context, trace.SpanKind.SERVER) as span:
            yield trace.format_trace_id(span.get_span_context().trace_id)

    def answered(self, method: str, endpoint: str, status: int) -> None:
        """Say what the present request was, and how it ended."""
        if self._tracer is None:
            return
        from opentelemetry import trace  # noqa: PLC0415

        span = trace.get_current_span()
        span.update_name(f"{method} {endpoint}")
        named = {"http.request.method": method, "http.route": endpoint, "http.response.status_code": status}
        span.set_attributes(named)
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)

    def span(self, name: str) -> AbstractContextManager[object]:
        """The span of something that a request waits for."""
        return nullcontext() if self._tracer is None else self._tracer.start_as_current_span(name)

    def parts(self, computed: Timed) -> None:
        """A span for each part of a batch that has just been computed."""
        if self._tracer is None:
            return
        at_ns = time_ns() - sum(map(_ns, computed.timings_ms.values()))
        for name, ms in computed.timings_ms.items():
            span = self._tracer.start_span(name, start_time=at_ns)
            at_ns += _ns(ms)
            span.end(at_ns)


def _ns(ms: float) -> int:
    return int(ms * 1e6)


tracing = Tracing()
