"""Which path asks for which key, over HTTP; and what of it the log says."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api_keys import add_key, make_key
from service.logging import configure_logging
from tests.service.asking import check_problem
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}
WORKING = ("/categories", "/models")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """A key of each role, and the path of their file."""
    path = tmp_path / "keys.txt"
    made = {"infer": make_key("cam", "infer"), "admin": make_key("boss", "admin")}
    for _, entry in made.values():
        add_key(path, entry)
    return {"path": str(path), **{role: key for role, (key, _) in made.items()}}


@pytest.fixture
def guarded(start_service: ServiceFactory, keys: dict[str, str]) -> TestClient:
    return start_service(api_keys_file=keys["path"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_only_probes_metrics_and_the_description_answer(guarded: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
        assert guarded.get(path).status_code == 200, path
    for path in (*WORKING, "/nowhere"):
        response = guarded.get(path)
        check_problem(response, 401, "unauthorised", "Bearer")
        assert response.headers["www-authenticate"] == 'Bearer realm="anomoe"'
    check_problem(guarded.post("/detect", content=NORMAL, headers=PNG), 401, "unauthorised")
    check_problem(guarded.post("/models/reload"), 401, "unauthorised")
    assert 'requests_total{endpoint="/detect",status="401"} 1.0' in guarded.get("/metrics").text


def test_both_headers_take_a_key_of_either_role(guarded: TestClient, keys: dict[str, str]) -> None:
    for role in ("infer", "admin"):
        for header in (bearer(keys[role]), {"X-API-Key": keys[role]}):
            assert guarded.post("/detect", content=NORMAL, headers={**PNG, **header}).status_code == 200
            assert guarded.get("/models", headers=header).status_code == 200


def test_a_wrong_key_is_401_and_the_wrong_role_403(guarded: TestClient, keys: dict[str, str]) -> None:
    for wrong in ("anomoe_guess", keys["infer"][:-1], ""):
        check_problem(guarded.get("/models", headers={"X-API-Key": wrong}), 401, "unauthorised")
    response = guarded.post("/models/reload", headers=bearer(keys["infer"]))
    check_problem(response, 403, "forbidden", "cam")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert guarded.post("/models/reload", headers=bearer(keys["admin"])).status_code == 200


def test_every_key_that_is_given_must_be_right(guarded: TestClient, keys: dict[str, str]) -> None:
    right = {"X-API-Key": keys["infer"]}
    for authorization in ("Bearer guess", "Bearer ", "Basic Z3Vlc3M6", keys["infer"]):
        response = guarded.get("/models", headers={**right, "Authorization": authorization})
        check_problem(response, 401, "unauthorised")
    for wrong in ("guess", ""):
        response = guarded.get("/models", headers={**bearer(keys["infer"]), "X-API-Key": wrong})
        check_problem(response, 401, "unauthorised")
    assert guarded.get("/models", headers={**right, **bearer(keys["admin"])}).status_code == 200


def test_no_method_but_post_needs_an_admin(
    service: TestClient, guarded: TestClient, keys: dict[str, str]
) -> None:
    for method in ("GET", "PUT", "TRACE"):
        check_problem(service.request(method, "/models/reload"), 405, "method-not-allowed")
        response = guarded.request(method, "/models/reload", headers=bearer(keys["infer"]))
        check_problem(response, 405, "method-not-allowed")


def test_without_a_file_of_keys_all_is_open_but_what_needs_an_admin(service: TestClient) -> None:
    assert service.get("/models").status_code == 200
    check_problem(service.post("/models/reload"), 403, "forbidden", "api_keys_file")


def test_metrics_can_be_closed(start_service: ServiceFactory, keys: dict[str, str]) -> None:
    service = start_service(api_keys_file=keys["path"], metrics_need_key=True)
    check_problem(service.get("/metrics"), 401, "unauthorised")
    assert service.get("/metrics", headers=bearer(keys["infer"])).status_code == 200


def test_refusals_are_counted(guarded: TestClient) -> None:
    guarded.get("/models")
    assert 'anomoe_rejected_total{reason="unauthorised"} 1.0' in guarded.get("/metrics").text


@pytest.mark.usefixtures("restored_logging")
def test_no_key_is_ever_logged(
    guarded: TestClient, keys: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug")
    guarded.post("/detect", content=NORMAL, headers={**PNG, **bearer(keys["infer"])})
    guarded.get("/models", headers=bearer("anomoe_wrong-key"))
    guarded.post("/models/reload", headers={"X-API-Key": keys["admin"]})
    guarded.get("/models", params={"key": "anomoe_in-the-query"})
    lines = [line for line in capsys.readouterr().err.splitlines() if "httpx2" not in line]
    requests = [json.loads(line) for line in lines if '"event": "request"' in line]
    assert [line["status"] for line in requests] == [200, 401, 200, 401]
    assert requests[0]["client"] == "key cam"
    assert all("anomoe_" not in line for line in lines)


@pytest.mark.usefixtures("restored_logging")
def test_a_path_brings_no_escape_sequences_into_the_log(
    service: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info")
    service.get("/%1b]0;pwned%07/caf%C3%A9")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "pwned" in line and "path" in line)
    assert json.loads(line)["path"] == r"/\x1b]0;pwned\x07/café"


def test_pages_of_other_origins_are_not_served_unless_allowed(
    service: TestClient, start_service: ServiceFactory
) -> None:
    origin = {"Origin": "https://plant.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in service.options("/detect", headers=origin).headers
    assert "access-control-allow-origin" not in service.get("/models", headers=origin).headers
    allowed = start_service(cors_origins="https://plant.example, https://other.example")
    answer = allowed.options("/detect", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://plant.example"
    assert {"x-request-id", "server-timing"} <= answer.headers.keys()
    wrong = {**origin, "Origin": "https://evil.example"}
    assert "access-control-allow-origin" not in allowed.get("/models", headers=wrong).headers
    refused = allowed.post("/detect", content=b"text", headers={**PNG, **origin})
    check_problem(refused, 415, "not-a-picture")
    assert refused.headers["access-control-allow-origin"] == "https://plant.example"
    assert "X-Request-ID" in refused.headers["access-control-expose-headers"]


def test_every_answer_has_security_headers(service: TestClient) -> None:
    for response in (service.get("/models"), service.get("/nowhere"), service.get("/healthz")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cache-control"] == "no-store"


def test_the_description_tells_which_paths_ask_for_a_key(
    start_service: ServiceFactory, guarded: TestClient
) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    wanted = [{"bearer": []}, {"header": []}]
    assert paths["/detect"]["post"]["security"] == paths["/models/reload"]["post"]["security"] == wanted
    assert "security" not in paths["/readyz"]["get"] | paths["/metrics"]["get"]
    assert "security" not in start_service().get("/openapi.json").json()["paths"]["/detect"]["post"]
