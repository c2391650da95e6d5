"""Behind a proxy that shows the service under a prefix, and takes it off or not."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.api_keys import add_key, make_key
from tests.service.asking import check_problem
from tests.service.conftest import ServiceFactory, encoded, settings_for
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize("setting", ["/factory/line-1", "/factory/line-1/"])
@pytest.mark.parametrize("prefix", ["/factory/line-1", ""], ids=["left on", "taken off"])
def test_every_path_answers_with_the_prefix_and_without(
    start_service: ServiceFactory, setting: str, prefix: str
) -> None:
    service = start_service(root_path=setting)
    for path in ("/docs", "/docs/swagger-ui.css", "/healthz", "/models"):
        assert service.get(prefix + path).status_code == 200, path
    assert service.post(f"{prefix}/detect", content=NORMAL, headers=PNG).json()["is_anomalous"] is False
    assert service.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/factory/line-1"}]
    assert 'requests_total{endpoint="/detect",status="200"} 1.0' in service.get("/metrics").text


def test_other_paths_are_not_found(start_service: ServiceFactory) -> None:
    service = start_service(root_path="/factory")
    for path in ("/factorydetect", "/factory/factory/models", "/FACTORY/models", "http://testserver//models"):
        check_problem(service.get(path), 404, "not-found")


def test_a_path_that_begins_like_the_prefix_stays(start_service: ServiceFactory) -> None:
    service = start_service(root_path="/models")
    assert service.get("/models").json() == service.get("/models/models").json()
    check_problem(service.post("/models/reload"), 403, "forbidden")


def test_the_prefix_opens_no_door(start_service: ServiceFactory, tmp_path: Path) -> None:
    key, entry = make_key("cam", "infer")
    add_key(tmp_path / "keys.txt", entry)
    service = start_service(root_path="/factory", api_keys_file=str(tmp_path / "keys.txt"))
    for prefix in ("", "/factory"):
        assert service.get(f"{prefix}/docs").status_code == 200
        check_problem(service.get(f"{prefix}/models"), 401, "unauthorised")
        check_problem(service.post(f"{prefix}/detect", content=NORMAL, headers=PNG), 401, "unauthorised")
        response = service.post(f"{prefix}/models/reload", headers={"X-API-Key": key})
        check_problem(response, 403, "forbidden")


def test_without_a_prefix_the_description_names_no_server(start_service: ServiceFactory) -> None:
    assert "servers" not in start_service().get("/openapi.json").json()


@pytest.mark.parametrize(
    "value", ["factory", "https://example.com/a", "/a b", "/a?b", "//a", "/a//b", "/%61"]
)
def test_what_is_no_prefix_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        settings_for("bundles", root_path=value)
