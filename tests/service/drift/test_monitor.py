"""Drift of a running service: told at /drift and in the metrics, kept over a restart, reset by an admin."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api_keys import add_key, make_key
from service.app import create_app
from service.metrics import Metrics
from service.models.loading import load_models
from tests.service.conftest import ServiceFactory, encoded, settings_for
from tests.tiny_bundle import plain_picture, spotted_picture


@contextmanager
def running(bundles: Path, state: Path) -> Iterator[TestClient]:
    """A service that stops at the end of the context."""
    settings, metrics = settings_for(bundles, state_dir=str(state)), Metrics()
    with TestClient(create_app(settings, load_models(settings, metrics), metrics)) as client:
        yield client


def drift_of(service: TestClient, category: str) -> dict[str, Any]:
    answer = service.get("/drift")
    assert answer.status_code == 200
    (product,) = [one for one in answer.json()["products"] if one["category"] == category]
    return product


def gauge(service: TestClient, name: str) -> float:
    lines = service.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"anomoe_{name} "))


def send(service: TestClient, count: int, *, is_spotted: bool = False) -> None:
    picture = spotted_picture("slate") if is_spotted else plain_picture("slate")
    for _ in range(count):
        answer = service.post("/detect", content=encoded(picture), params={"map": "none"})
        assert answer.status_code == 200


@pytest.fixture
def admin(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A file of keys, and the headers of its admin."""
    key, entry = make_key("operator", "admin")
    add_key(tmp_path / "keys.txt", entry)
    return str(tmp_path / "keys.txt"), {"X-API-Key": key}


def test_defects_in_a_row_raise_the_alarm_until_its_reset(
    start_service: ServiceFactory, admin: tuple[str, dict[str, str]]
) -> None:
    keys, headers = admin
    service = start_service(drift_pictures=1000, api_keys_file=keys)
    service.headers.update(headers)
    assert gauge(service, 'drift_alarm{category="slate"}') == 0
    send(service, 25, is_spotted=True)
    alarmed = drift_of(service, "slate")
    assert alarmed["alarm"]["stream"] in ("score", "distance")
    assert alarmed["statistic"] >= 1
    assert gauge(service, 'drift_alarm{category="slate"}') == 1
    assert gauge(service, 'drift_statistic{category="slate"}') == pytest.approx(alarmed["statistic"])
    assert drift_of(service, "brick")["pictures"] == 0
    answer = service.post("/drift/reset", params={"category": "slate"})
    assert answer.status_code == 200
    assert drift_of(service, "slate")["alarm"] is None
    assert gauge(service, 'drift_alarm{category="slate"}') == 0


def test_a_restart_goes_on_where_the_last_one_stopped(tmp_path: Path, bundle_folder: Path) -> None:
    with running(bundle_folder, tmp_path) as service:
        send(service, 4)
        before = drift_of(service, "slate")
    assert before["pictures"] == 4
    (file,) = (tmp_path / "drift").iterdir()
    assert file.stat().st_size < 20_000
    with running(bundle_folder, tmp_path) as service:
        assert drift_of(service, "slate") == before
    good = json.loads(file.read_text())
    for part, wrong in (("counts", {"5": 10**30}), ("counts", {"-1": 1}), ("statistics", [-9.0])):
        bad = deepcopy(good)
        stream = bad["products"]["slate"]["score"]
        stream[part] = wrong * len(stream[part]) if isinstance(wrong, list) else wrong
        file.write_text(json.dumps(bad))
        with running(bundle_folder, tmp_path) as service:
            assert drift_of(service, "slate")["pictures"] == 0


def test_a_state_folder_that_cannot_be_written_stops_no_picture(tmp_path: Path, bundle_folder: Path) -> None:
    (tmp_path / "state").touch()
    with running(bundle_folder, tmp_path / "state") as service:
        send(service, 1)
        assert drift_of(service, "slate")["pictures"] == 1


def test_a_reload_of_the_same_bundle_keeps_the_state(
    start_service: ServiceFactory, admin: tuple[str, dict[str, str]]
) -> None:
    keys, headers = admin
    service = start_service(api_keys_file=keys)
    service.headers.update(headers)
    send(service, 3)
    assert service.post("/models/reload").status_code == 200
    assert drift_of(service, "slate")["pictures"] == 3


def test_a_reset_is_for_admins_and_of_products_that_are_there(
    start_service: ServiceFactory, service: TestClient, admin: tuple[str, dict[str, str]]
) -> None:
    assert service.post("/drift/reset").status_code == 403
    keys, headers = admin
    with_keys = start_service(api_keys_file=keys)
    answer = with_keys.post("/drift/reset", params={"category": "tyle"}, headers=headers)
    assert answer.status_code == 404
    assert "'tyle'" in answer.json()["detail"]
    assert with_keys.post("/drift/reset", headers=headers).status_code == 200
