"""Traces: spans of a request and of what it waits for, one trace with the caller, nothing when off."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient

from service.run import run
from service.tracing import tracing
from tests.service.conftest import ServiceFactory, encoded, settings_for
from tests.tiny_bundle import plain_picture
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle

PICTURE = encoded(plain_picture("slate"))
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}

Spans = Callable[[], dict[str, Any]]


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Tracing is on; gives the spans that have ended, by name."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    exporter = InMemorySpanExporter()
    tracing.start(SimpleSpanProcessor(exporter))
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    tracing.stop()


def test_a_picture_leaves_the_spans_of_what_it_waited_for(spans: Spans, service: TestClient) -> None:
    service.get("/healthz")  # of which there are too many
    answer = service.post("/detect", content=PICTURE, headers=CALLER)
    found = spans()
    inside = ("backbone", "experts", "head")
    assert tuple(found) == ("turn", "decode", *inside, "compute", "encode", "POST /detect")
    request, compute = found["POST /detect"], found["compute"]
    for name, span in found.items():
        assert f"{span.context.trace_id:032x}" == TRACE_ID == answer.headers["X-Trace-ID"]
        parent = compute if name in inside else request
        assert span is request or span.parent.span_id == parent.context.span_id
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time
    assert f"{request.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert found["backbone"].end_time == found["experts"].start_time
    told = answer.json()["timings_ms"]["backbone"]
    assert (found["backbone"].end_time - found["backbone"].start_time) / 1e6 == pytest.approx(told, abs=0.01)
    assert request.resource.attributes["service.name"] == "anomoe"
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/detect",
        "http.response.status_code": 200,
    }


def test_pictures_of_a_batch_and_class_names_belong_to_their_request(
    spans: Spans, start_service: ServiceFactory, bundle_folder: Path, tmp_path: Path
) -> None:
    service = start_service(bundles=f"{bundle_folder},{make_tiny_zero_shot_bundle(tmp_path / 'zero-shot')}")
    files = [("file", ("one.png", PICTURE))] * 2
    for path, options in (
        ("/detect/batch", {"files": files}),
        ("/zero-shot?class_names=slate", {"content": PICTURE}),
    ):
        assert service.post(path, **options).status_code == 200  # type: ignore[arg-type]
    found = spans()
    batch, zero_shot = found["POST /detect/batch"], found["POST /zero-shot"]
    assert found["vision"].context.trace_id == zero_shot.context.trace_id != batch.context.trace_id
    assert found["backbone"].context.trace_id == batch.context.trace_id


def test_a_failure_is_marked_and_in_the_log_by_its_trace(spans: Spans, service: TestClient) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = service.post("/detect", content=PICTURE, headers={"X-Deadline-Ms": "0.001"})
        service.get("/scan")
    late, lost = spans()["POST /detect"], spans()["GET unmatched"]
    assert (late.status.is_ok, lost.status.is_ok) == (False, True)
    told = [line["trace_id"] for line in lines if line["event"] == "request"]
    assert told[0] == answer.headers["X-Trace-ID"] == f"{late.context.trace_id:032x}" != told[1]


def test_without_it_nothing_is_added(service: TestClient) -> None:
    answer = service.post("/detect", content=PICTURE, headers=CALLER)
    assert "X-Trace-ID" not in answer.headers


def test_a_missing_extra_is_told_at_the_start(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(OSError, match=r"ANOMOE_OTEL is set, but the extra `otel` is not installed"):
        run(settings_for(bundle_folder, otel=True))
