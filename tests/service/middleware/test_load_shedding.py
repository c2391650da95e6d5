"""A full service refuses before it looks for a route what the route would refuse, and nothing else."""

import gc
import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from httpx2 import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from service.api_keys import add_key, make_key
from service.errors import Problem
from service.middleware.admission import WorkRoute
from service.scheduling.caller import Caller
from service.scheduling.permits import Budget
from tests.service.asking import check_problem, runtime_in
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
CAMERA = {"Content-Type": "image/png", "X-Client-ID": "cam"}


@contextmanager
def held(service: TestClient, client: str, permits: int = 8) -> Generator[None, None, None]:
    """So many permits are taken by a client."""
    with ExitStack() as stack:
        for _ in range(permits):
            stack.enter_context(runtime_in(service).permits.hold(Caller(client)))
        yield


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths for work whose route was reached."""
    paths: list[str] = []
    handle = WorkRoute.handle

    async def noted(route: WorkRoute, scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(route.path)
        await handle(route, scope, receive, send)

    monkeypatch.setattr(WorkRoute, "handle", noted)
    return paths


@pytest.fixture
def service(start_service: ServiceFactory) -> TestClient:
    return start_service(queue_size=10)


@pytest.mark.parametrize("given_id", ["", "line-7", 'a"b\\c'])
def test_a_refusal_at_the_door_is_that_of_the_route(
    service: TestClient, routed: list[str], monkeypatch: pytest.MonkeyPatch, given_id: str
) -> None:
    headers = {**CAMERA, **({"X-Request-ID": given_id} if given_id else {})}

    def refused() -> Response:
        response = service.post("/detect", content=NORMAL, headers=headers)
        check_problem(response, 429, "busy", "8 requests of this client, 8 in all, of 10")
        assert re.fullmatch(r"total;dur=\d+\.\d{3}", response.headers["server-timing"])
        return response

    with held(service, "id cam"):
        outside = refused()
        assert not routed
        monkeypatch.setattr(Budget, "is_scarce", False)
        inside = refused()
        assert routed == ["/detect"]
    own = {"server-timing"} if given_id else {"server-timing", "x-request-id"}
    assert set(outside.headers) == set(inside.headers)
    assert {k: v for k, v in outside.headers.items() if k not in own} == {
        k: v for k, v in inside.headers.items() if k not in own
    }
    text = service.get("/metrics").text
    assert 'anomoe_requests_total{endpoint="/detect",status="429"} 2.0' in text
    assert 'anomoe_request_seconds_count{endpoint="/detect"} 2.0' in text
    assert 'anomoe_rejected_total{reason="busy"} 2.0' in text


def test_who_has_a_share_left_is_let_in(service: TestClient, routed: list[str]) -> None:
    with held(service, "id cam"):
        assert service.post("/detect", content=NORMAL, headers=CAMERA).status_code == 429
        assert not routed
        other = {**CAMERA, "X-Client-ID": "b"}
        assert service.post("/detect", content=NORMAL, headers=other).status_code == 200
    with held(service, "id cam", 7):
        assert service.post("/detect", content=NORMAL, headers=CAMERA).status_code == 200
    assert routed == ["/detect"] * 2


def test_whatever_is_answered_otherwise_is_so_when_it_is_full(service: TestClient) -> None:
    def post(**more: str) -> Response:
        return service.post("/detect", content=NORMAL, headers={**CAMERA, **more})

    with held(service, "id cam"):
        for method, path, status in (
            ("GET", "/detect", 405),
            ("POST", "/detect/", 404),
            ("POST", "/models/reload", 403),
            ("GET", "/healthz", 200),
        ):
            assert service.request(method, path, headers=CAMERA).status_code == status
        assert post(**{"X-Deadline-Ms": "soon"}).status_code == 422
        assert post(**{"X-Deadline-Ms": "1000"}).status_code == 429
        assert post(**{"Content-Length": "9" * 500}).status_code == 413
        runtime_in(service).health.enter("stopping")
        assert post().status_code == 503


def test_a_key_is_a_client(start_service: ServiceFactory, routed: list[str], tmp_path: Path) -> None:
    key, entry = make_key("cam", "infer")
    add_key(tmp_path / "keys.txt", entry)
    service = start_service(queue_size=10, api_keys_file=str(tmp_path / "keys.txt"))
    with held(service, "key cam"):
        assert service.post("/detect", content=NORMAL, headers={"X-API-Key": key}).status_code == 429
        assert service.post("/detect", content=NORMAL, headers={"X-API-Key": "wrong"}).status_code == 401
        assert service.post("/detect", content=NORMAL, headers=CAMERA).status_code == 401
    assert not routed


def test_pages_of_other_origins_are_told(start_service: ServiceFactory) -> None:
    service = start_service(queue_size=10, cors_origins="https://line.example")
    with held(service, "id cam"):
        headers = {**CAMERA, "Origin": "https://line.example"}
        response = service.post("/detect", content=NORMAL, headers=headers)
    check_problem(response, 429, "busy")
    assert response.headers["access-control-allow-origin"] == "https://line.example"


def test_nothing_of_a_refused_request_is_left_to_the_collector(service: TestClient) -> None:
    """Bodies of what is refused would fill the memory until it runs, and it stops every thread."""
    with held(service, "id cam"):
        gc.collect()
        gc.disable()
        try:
            refused = [service.post("/detect", content=NORMAL, headers=CAMERA).status_code for _ in range(3)]
            assert refused == [429] * 3
            assert not [one for one in gc.get_objects() if type(one) is Problem]
        finally:
            gc.enable()
