"""Every promised metric is there and moves."""

from starlette.testclient import TestClient

from service.metrics import Metrics
from tests.service.conftest import encoded
from tests.tiny_bundle import plain_picture, spotted_picture, unknown_picture

NAMES = (
    "requests_total request_seconds stage_seconds queue_seconds queue_depth in_flight batch_size "
    "rejected_total expert_selected_total score anomalies_total images_total "
    "calibration_size model_info ready abandoned_total stage_failures_total reloads_total "
    "text_cache_total text_cache_size"
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
    assert [name for name in names if f"{name} 0.0" not in lines] == []


def test_unknown_paths_share_one_label(service: TestClient) -> None:
    for number in range(3):
        service.get(f"/scan/{number}")
    text = service.get("/metrics").text
    assert 'anomoe_requests_total{endpoint="unmatched",status="404"} 3.0' in text
