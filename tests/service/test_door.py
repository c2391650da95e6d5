"""A full service refuses at the door what it would refuse inside, and lets everything else in."""

import gc
import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient

from service.caller import Caller
from service.door import Door
from service.errors import Problem
from service.security import add_key, make_key
from tests.service.conftest import ServiceFactory, encoded
from tests.service.test_app import check_problem, detector_in
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
CAMERA = {"Content-Type": "image/png", "X-Client-ID": "cam"}


@contextmanager
def held(service: TestClient, client: str, permits: int = 8) -> Generator[None, None, None]:
    """So many permits are taken by a client."""
    with ExitStack() as stack:
        for _ in range(permits):
            stack.enter_context(detector_in(service).permits.hold(Caller(client)))
        yield


def door_of(service: TestClient) -> TestClient:
    return TestClient(service.app.state.door)  # type: ignore[attr-defined]


def closed_door_of(service: TestClient) -> TestClient:
    """The door of an application that answers nothing but 299."""
    door = service.app.state.door  # type: ignore[attr-defined]
    assert isinstance(door, Door)
    door.app = Response("inside", 299)
    return TestClient(door)


@pytest.fixture
def service(start_service: ServiceFactory) -> TestClient:
    return start_service(queue_size=10)


@pytest.mark.parametrize("given_id", ["", "line-7", 'a"b\\c'])
def test_a_refusal_at_the_door_is_that_of_the_application(service: TestClient, given_id: str) -> None:
    headers = {**CAMERA, **({"X-Request-ID": given_id} if given_id else {})}
    with held(service, "id cam"):
        inside = service.post("/detect", content=NORMAL, headers=headers)
        outside = door_of(service).post("/detect", content=NORMAL, headers=headers)
    check_problem(inside, 429, "busy", "8 requests of this client, 8 in all, of 10")
    check_problem(outside, 429, "busy", "8 requests of this client, 8 in all, of 10")
    own = {"x-request-id", "server-timing"}
    assert set(outside.headers) == set(inside.headers)
    assert {k: v for k, v in outside.headers.items() if k not in own} == {
        k: v for k, v in inside.headers.items() if k not in own
    }
    if given_id:
        assert outside.headers["x-request-id"] == given_id
    assert re.fullmatch(r"total;dur=\d+\.\d{3}", outside.headers["server-timing"])
    text = service.get("/metrics").text
    assert 'anomoe_requests_total{endpoint="/detect",status="429"} 2.0' in text
    assert 'anomoe_request_seconds_count{endpoint="/detect"} 2.0' in text
    assert 'anomoe_rejected_total{reason="busy"} 2.0' in text


def test_who_has_a_share_left_is_let_in(service: TestClient) -> None:
    door = closed_door_of(service)
    with held(service, "id cam"):
        assert door.post("/detect", content=NORMAL, headers=CAMERA).status_code == 429
        assert door.post("/detect", content=NORMAL, headers={**CAMERA, "X-Client-ID": "b"}).status_code == 299
    with held(service, "id cam", 7):
        assert door.post("/detect", content=NORMAL, headers=CAMERA).status_code == 299


def test_whatever_may_be_answered_otherwise_is_let_in(service: TestClient) -> None:
    door = closed_door_of(service)
    with held(service, "id cam"):
        for method, path in (("GET", "/detect"), ("POST", "/models/reload"), ("GET", "/healthz")):
            assert door.request(method, path, headers=CAMERA).status_code == 299
        for more in ({"X-Deadline-Ms": "100"}, {"Content-Length": "1048577"}, {"Content-Length": "9" * 5000}):
            assert door.post("/detect", content=NORMAL, headers={**CAMERA, **more}).status_code == 299
        assert door.post("/detect", content=iter([NORMAL]), headers=CAMERA).status_code == 299
        detector_in(service).health.enter("stopping")
        assert door.post("/detect", content=NORMAL, headers=CAMERA).status_code == 299


def test_a_key_is_a_client_and_a_wrong_one_is_for_the_application(
    start_service: ServiceFactory, tmp_path: Path
) -> None:
    key, entry = make_key("cam", "infer")
    add_key(tmp_path / "keys.txt", entry)
    service = start_service(queue_size=10, api_keys_file=str(tmp_path / "keys.txt"))
    door = closed_door_of(service)
    with held(service, "key cam"):
        assert door.post("/detect", content=NORMAL, headers={"X-API-Key": key}).status_code == 429
        assert door.post("/detect", content=NORMAL, headers={"X-API-Key": "wrong"}).status_code == 299
        assert door.post("/detect", content=NORMAL, headers=CAMERA).status_code == 299


def test_pages_of_other_origins_are_answered_by_the_application(start_service: ServiceFactory) -> None:
    service = start_service(queue_size=10, cors_origins="https://line.example")
    with held(service, "id cam"):
        headers = {**CAMERA, "Origin": "https://line.example"}
        response = door_of(service).post("/detect", content=NORMAL, headers=headers)
    check_problem(response, 429, "busy")
    assert response.headers["access-control-allow-origin"] == "https://line.example"


def test_nothing_of_a_refused_request_is_left_to_the_collector(service: TestClient) -> None:
    """Bodies of what is refused would fill the memory until it runs, and it stops every thread."""
    door = door_of(service)
    with held(service, "id cam"):
        gc.collect()
        gc.disable()
        try:
            refused = [door.post("/detect", content=NORMAL, headers=CAMERA).status_code for _ in range(3)]
            assert refused == [429] * 3
            assert not [one for one in gc.get_objects() if type(one) is Problem]
        finally:
            gc.enable()
