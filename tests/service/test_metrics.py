"""Every promised metric is there and moves."""

import re
from pathlib import Path
from shutil import copytree

from starlette.testclient import TestClient

from service.api_keys import add_key, make_key
from service.metrics import Metrics
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import plain_picture, spotted_picture, unknown_picture

NAMES = (
    "requests_total request_seconds stage_seconds queue_seconds queue_depth in_flight batch_size "
    "rejected_total expert_selected_total score anomalies_total images_total "
    "calibration_size model_info ready abandoned_total stage_failures_total reloads_total "
    "text_cache_total text_cache_size distance not_this_product_total alpha queue_capacity admitted "
    "drift_statistic drift_alarm device_info gpu_missing build_info last_reload_timestamp_seconds "
    "deadline_missed_total"
)


def test_names_are_those_of_the_contract() -> None:
    text = Metrics().render().decode()
    for name in NAMES.split():
        assert f"# TYPE anomoe_{name} " in text


def test_pictures_are_counted(service: TestClient) -> None:
    for picture in (plain_picture("slate"), spotted_picture("slate"), unknown_picture()):
        assert service.post("/detect", content=encoded(picture)).status_code == 200
    lines = service.get("/metrics").text.splitlines()
    assert 'anomoe_requests_total{endpoint="/detect",status="200"} 3.0' in lines
    assert 'anomoe_request_seconds_count{endpoint="/detect"} 3.0' in lines
    assert 'anomoe_images_total{category="slate"} 2.0' in lines
    assert 'anomoe_images_total{category="unknown"} 1.0' in lines
    assert 'anomoe_anomalies_total{category="slate"} 1.0' in lines
    assert 'anomoe_score_count{category="slate"} 2.0' in lines
    assert 'anomoe_calibration_size{category="brick"} 199.0' in lines
    assert 'anomoe_stage_seconds_count{stage="backbone"} 3.0' in lines
    assert "anomoe_queue_seconds_count 3.0" in lines
    assert "anomoe_batch_size_count 3.0" in lines
    assert "anomoe_queue_depth 0.0" in lines
    assert "anomoe_in_flight 1.0" in lines
    assert "anomoe_ready 1.0" in lines
    selected = [line for line in lines if line.startswith("anomoe_expert_selected_total{")]
    assert sum(float(line.split()[-1]) for line in selected) == 9
    assert sum(line.startswith("anomoe_model_info{") for line in lines) == 1


def test_children_are_there_before_their_first_event(service: TestClient) -> None:
    lines = service.get("/metrics").text.splitlines()
    categories = [f'{{category="{name}"}}' for name in ("brick", "slate", "unknown", "zero-shot")]
    names = [f"anomoe_{name}{one}" for name in ("images_total", "anomalies_total") for one in categories]
    names += [f"anomoe_score_count{one}" for one in categories]
    names += [f'anomoe_expert_selected_total{{expert="{one}",level="patch"}}' for one in (0, 1)]
    names += [f'anomoe_stage_seconds_count{{stage="{one}"}}' for one in ("decode", "vision", "encode")]
    names += [f'anomoe_rejected_total{{reason="{one}"}}' for one in ("busy", "deadline", "too-slow")]
    names += [f'anomoe_deadline_missed_total{{stage="{one}"}}' for one in ("admission", "queue", "encode")]
    names += [f'anomoe_stage_failures_total{{stage="{one}"}}' for one in ("decode", "engine", "encode-large")]
    names += [f'anomoe_reloads_total{{result="{one}"}}' for one in ("done", "refused")]
    names += [f'anomoe_requests_total{{endpoint="/detect",status="{one}"}}' for one in (200, 429, 500, 504)]
    names += ['anomoe_last_reload_timestamp_seconds{result="refused"}', "anomoe_admitted"]
    assert [name for name in names if f"{name} 0.0" not in lines] == []
    assert not [line for line in lines if "_created" in line]


def test_the_promise_and_what_computes_are_told(service: TestClient) -> None:
    lines = service.get("/metrics").text.splitlines()
    assert 'anomoe_alpha{category="slate"} 0.01' in lines
    assert "anomoe_queue_capacity 64.0" in lines
    assert 'anomoe_device_info{device="cpu",provider="CPUExecutionProvider"} 1.0' in lines
    assert any(line.startswith("anomoe_build_info{version=") for line in lines)


def test_a_missed_deadline_is_counted_where_it_passed(service: TestClient) -> None:
    answer = service.post(
        "/detect", content=encoded(plain_picture("slate")), headers={"X-Deadline-Ms": "0.001"}
    )
    assert answer.status_code == 504
    lines = [line for line in service.get("/metrics").text.splitlines() if "deadline_missed_total{" in line]
    assert sum(float(line.split()[-1]) for line in lines) == 1


def test_a_reload_leaves_its_time(start_service: ServiceFactory, bundle_folder: Path, tmp_path: Path) -> None:
    folder = Path(copytree(bundle_folder, tmp_path / "tiny"))
    keys = tmp_path / "keys.txt"
    key, entry = make_key("operator", "admin")
    add_key(keys, entry)
    service = start_service(bundles=str(folder), api_keys_file=str(keys))
    (folder / "manifest.json").write_text("{}")
    assert service.post("/models/reload", headers={"X-API-Key": key}).status_code == 422
    text = service.get("/metrics").text
    assert 'anomoe_reloads_total{result="refused"} 1.0' in text
    good, bad = (
        float(line.split()[-1])
        for result in ("done", "refused")
        for line in text.splitlines()
        if line.startswith(f'anomoe_last_reload_timestamp_seconds{{result="{result}"}}')
    )
    assert bad > good > 0


def test_whatever_is_asked_adds_no_series(service: TestClient) -> None:
    before = series(service)
    endpoints = re.findall('_count{endpoint="([^"]+)"}', service.get("/metrics").text)
    assert len(endpoints) > 15
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        for path in endpoints:
            service.request(method, path.replace("unmatched", "/scan"))
    for status, content in ((415, b"none"), (422, encoded(plain_picture("slate"))[:60]), (413, bytes(2**26))):
        assert service.post("/detect", content=content).status_code == status
    assert series(service) == before


def series(service: TestClient) -> set[str]:
    """The names and labels that the metrics have."""
    lines = service.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_unknown_paths_share_one_label(service: TestClient) -> None:
    for number in range(3):
        service.get(f"/scan/{number}")
    text = service.get("/metrics").text
    assert 'anomoe_requests_total{endpoint="unmatched",status="404"} 3.0' in text
