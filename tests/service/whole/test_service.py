"""The service over HTTP, with a real bundle and real pictures."""

import re
from base64 import b64encode, encodebytes
from collections.abc import Sequence

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.inference.anomalymoe import Engine, Picture
from service.inference.backends.base import GraphError
from tests.service.asking import ANOMALOUS, NORMAL, PNG, check_problem, picture_of, runtime_in
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import COLOURS, spotted_picture, unknown_picture

STAGES = {"decode", "queue", "backbone", "experts", "head", "encode", "total"}


def test_normal_picture(service: TestClient) -> None:
    answer = service.post("/detect", content=NORMAL, headers=PNG).json()
    assert (answer["category"], answer["category_source"]) == ("brick", "recognised")
    assert (answer["is_anomalous"], answer["reason"], answer["regions"]) == (False, None, [])
    assert answer["score"] < 0.5
    assert np.asarray(picture_of(answer)).max() <= 127


def test_anomalous_picture_has_every_field_and_they_agree(service: TestClient) -> None:
    response = service.post("/detect", content=ANOMALOUS, headers=PNG)
    answer = response.json()
    assert response.status_code == 200
    assert (answer["is_anomalous"], answer["reason"], answer["alpha"]) == (True, "score", 0.01)
    assert answer["score"] == pytest.approx(answer["raw_score"] / (answer["raw_score"] + answer["threshold"]))
    assert answer["p_value"] == pytest.approx(1 / 200)
    assert answer["model"]["name"] == "tiny"
    assert re.fullmatch("sha256:[0-9a-f]{64}", answer["model"]["digest"])
    assert set(answer["levels"]) == {"patch", "component", "global"}
    assert sum(level["weight"] for level in answer["levels"].values()) == pytest.approx(1, abs=1e-5)
    assert len(answer["experts"]) == 3
    assert set(answer["timings_ms"]) == STAGES
    assert answer["timings_ms"]["total"] >= answer["timings_ms"]["decode"]
    assert answer["batch_size"] == 1
    region = answer["regions"][0]
    assert (region["x"], region["y"]) == (0, 0)
    assert region["peak"] > 0.5
    shown = picture_of(answer)
    assert shown.size == (56, 42) == (answer["anomaly_map"]["width"], answer["anomaly_map"]["height"])
    assert np.asarray(shown)[2, 2] > 127


def test_unknown_product(service: TestClient) -> None:
    answer = service.post("/detect", content=encoded(unknown_picture()), headers=PNG).json()
    assert (answer["category_source"], answer["is_anomalous"]) == ("unknown", True)
    assert answer["reason"] == "unknown_product"
    assert [answer[field] for field in ("category", "threshold", "score", "p_value")] == [None] * 4
    assert answer["anomaly_map"]["encoding"] == "png"


def test_raw_form_and_json_bodies_give_the_same_answer(service: TestClient) -> None:
    wanted = {"category": "slate", "map": "npy", "alpha": "0.2", "regions": "false"}
    raw = service.post("/detect", content=ANOMALOUS, headers=PNG, params=wanted)
    octets = service.post("/detect", content=ANOMALOUS, params=wanted)
    form = service.post("/detect", files={"file": ("a.png", ANOMALOUS)}, data=wanted)
    body = {"image": encodebytes(ANOMALOUS).decode(), **wanted, "alpha": 0.2, "regions": False}
    answers = [response.json() for response in (raw, octets, form, service.post("/detect", json=body))]
    for answer in answers:
        for varying in ("request_id", "timings_ms"):
            answer.pop(varying)
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0]["category"], answers[0]["category_source"]) == ("slate", "request")
    assert (answers[0]["alpha"], answers[0]["regions"]) == (0.2, [])


def test_batch_answers_in_order_each_with_a_result_or_an_error(service: TestClient) -> None:
    files = [("file", (name, data)) for name, data in (("a", ANOMALOUS), ("b", b"text"), ("c", NORMAL))]
    response = service.post("/detect/batch", files=files, data={"map": "none"})
    bad, broken, good = response.json()["results"]
    assert response.status_code == 200
    assert (bad["is_anomalous"], good["is_anomalous"]) == (True, False)
    assert (broken["status"], broken["type"]) == (415, "urn:anomoe:not-a-picture")
    assert {bad["request_id"], broken["request_id"]} == {response.headers["x-request-id"]}


def test_what_a_picture_waits_within_its_batch_is_told_as_waiting(start_service: ServiceFactory) -> None:
    service = start_service(max_batch=1)
    answer = service.post("/detect/batch", files=[("file", ("a", NORMAL))] * 4, data={"map": "none"}).json()
    waited = [one["timings_ms"]["queue"] for one in answer["results"]]
    worked = [
        sum(one["timings_ms"][stage] for stage in ("decode", "backbone", "experts", "head", "encode"))
        for one in answer["results"]
    ]
    assert all(waited[place] >= sum(worked[:place]) - 0.1 for place in range(1, 4))


def test_stages_and_waiting_are_the_whole(service: TestClient) -> None:
    answers = [service.post("/detect", content=NORMAL).json() for _ in range(5)]
    answers += service.post("/detect/batch", files=[("file", ("a", NORMAL))] * 8).json()["results"]
    for timings_ms in (answer["timings_ms"] for answer in answers):
        total = timings_ms.pop("total")
        assert sum(timings_ms.values()) == pytest.approx(total, rel=0.05)


def test_large_batch_is_not_refused_by_its_own_size(start_service: ServiceFactory) -> None:
    service = start_service(queue_size=2, max_batch=2)
    files = [("file", (str(number), NORMAL)) for number in range(7)]
    results = service.post("/detect/batch", files=files, data={"map": "none"}).json()["results"]
    assert [result["is_anomalous"] for result in results] == [False] * 7


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"alpha": "0"}, "alpha"),
        ({"alpha": "1"}, "alpha"),
        ({"alpha": "nan"}, "alpha"),
        ({"map": "jpeg"}, "map"),
        ({"map_size": "huge"}, "map_size"),
        ({"regions": "perhaps"}, "regions"),
        ({"categroy": "brick"}, "categroy"),
    ],
)
def test_wrong_parameter_is_named_with_its_value(
    service: TestClient, params: dict[str, str], field: str
) -> None:
    response = service.post("/detect", content=NORMAL, headers=PNG, params=params)
    check_problem(response, 422, "invalid-parameter", field, params[field])


def test_repeated_parameter_is_not_guessed_at(service: TestClient) -> None:
    response = service.post("/detect", content=NORMAL, headers=PNG, params={"alpha": ["0.1", "0.2"]})
    check_problem(response, 422, "invalid-parameter", "alpha", "['0.1', '0.2']")


def test_a_wrong_parameter_is_not_hidden_by_one_of_the_body(service: TestClient) -> None:
    files, wrong = {"file": ("a.png", NORMAL)}, {"alpha": "true"}
    response = service.post("/detect", files=files, data={"alpha": "0.1"}, params=wrong)
    check_problem(response, 422, "invalid-parameter", "alpha", "'true'")
    body = {"image": b64encode(NORMAL).decode(), "alpha": 0.1}
    check_problem(service.post("/detect", json=body, params=wrong), 422, "invalid-parameter", "alpha")
    assert service.post("/detect", json=body, params={"alpha": "0.3"}).json()["alpha"] == 0.1


def test_what_is_too_long_is_not_repeated(service: TestClient) -> None:
    long, image = "x" * 1_000_000, b64encode(NORMAL).decode()
    bodies = ({"image": image, name: long} for name in ("category", "map", long))
    answers = [service.post("/detect", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [404, 422, 422]
    answers.append(service.get(f"/{long[:1000]}"))
    answers.append(service.post("/detect", headers={"Content-Type": long[:1000]}))
    assert all(len(answer.json()["detail"]) < 500 for answer in answers)


def test_unknown_category_is_named_with_the_known_ones(service: TestClient) -> None:
    response = service.post("/detect", content=NORMAL, headers=PNG, params={"category": "wood"})
    check_problem(response, 404, "unknown-category", "wood", *COLOURS)
    batch = service.post("/detect/batch", files={"file": ("a", NORMAL)}, data={"category": "wood"})
    check_problem(batch, 404, "unknown-category", "wood")


def test_wrong_paths_and_methods_are_problems(service: TestClient) -> None:
    check_problem(service.get("/nowhere"), 404, "not-found", "/nowhere")
    check_problem(service.post("/detect/", content=NORMAL, headers=PNG), 404, "not-found", "/detect/")
    response = service.get("/detect")
    check_problem(response, 405, "method-not-allowed", "GET", "/detect")
    assert response.headers["allow"] == "POST"


def test_wrong_bodies_are_problems(service: TestClient) -> None:
    post = service.post
    check_problem(post("/detect", content=b"", headers=PNG), 400, "malformed", "empty")
    check_problem(post("/detect", content=b"text", headers=PNG), 415, "not-a-picture")
    check_problem(post("/detect", content=NORMAL, headers={"Content-Type": "text/csv"}), 415, "not-a-picture")
    half = encoded(spotted_picture("brick", (300, 200)), "JPEG")[:900]
    check_problem(post("/detect", content=half, headers=PNG), 422, "undecodable-picture")
    as_json = {"Content-Type": "application/json"}
    check_problem(post("/detect", content=b"{", headers=as_json), 400, "malformed")
    check_problem(post("/detect", content=b"[1]", headers=as_json), 400, "malformed", "object")
    check_problem(post("/detect", content=b"[" * 100_000, headers=as_json), 400, "malformed")
    many = b'{"image": "", "a": [' + b"1," * 100_000 + b"1]}"
    check_problem(post("/detect", content=many, headers=as_json), 422, "invalid-parameter", "100000 values")
    check_problem(post("/detect", json={"map": "none"}), 422, "invalid-parameter", "image")
    check_problem(post("/detect", json={"image": "%%%"}), 422, "invalid-parameter", "image")
    form = {"Content-Type": "multipart/form-data"}
    check_problem(post("/detect", content=b"x", headers=form), 400, "malformed", "boundary")
    packed = {**PNG, "Content-Encoding": "gzip"}
    check_problem(post("/detect", content=NORMAL, headers=packed), 415, "not-a-picture", "gzip")
    misnamed = {"image": ("a.png", NORMAL)}
    check_problem(post("/detect", files=misnamed), 422, "invalid-parameter", "'image'", "called file")
    nameless = {"file": (None, NORMAL)}
    check_problem(post("/detect/batch", files=nameless), 422, "invalid-parameter", "'file'", "file name")
    several = [("file", ("a", NORMAL)), ("file", ("b", NORMAL))]
    check_problem(post("/detect", files=several), 422, "invalid-parameter", "file")
    check_problem(post("/detect/batch", content=NORMAL, headers=PNG), 415, "not-a-picture")


def test_too_many_bytes_or_pixels_are_refused(start_service: ServiceFactory) -> None:
    service = start_service(max_body_bytes=500, max_pixels=56 * 42 - 1)
    announced = service.post("/detect", content=b"\0" * 501, headers=PNG)
    check_problem(announced, 413, "too-large", "501", "500")
    assert announced.headers["connection"] == "close"
    unannounced = service.post("/detect", content=iter([b"\0" * 300] * 3), headers=PNG)
    check_problem(unannounced, 413, "too-large", "500")
    check_problem(service.post("/detect", content=NORMAL, headers=PNG), 413, "too-large", "56 x 42")
    text = service.get("/metrics").text
    assert 'anomoe_rejected_total{reason="too-large"} 3.0' in text


def test_full_service_says_when_to_come_back(start_service: ServiceFactory) -> None:
    service = start_service(queue_size=1)
    runtime = runtime_in(service)
    with runtime.permits.hold():
        response = service.post("/detect", content=NORMAL, headers=PNG)
    check_problem(response, 429, "busy", "1")
    assert int(response.headers["retry-after"]) >= 1
    assert service.post("/detect", content=NORMAL, headers=PNG).status_code == 200


def test_failing_model_is_a_problem_for_its_picture(
    service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Engine, pictures: Sequence[Picture]) -> list[GraphError]:
        return [GraphError("expert-patch-0: out of memory") for _ in pictures]

    monkeypatch.setattr(Engine, "run", fail)
    check_problem(service.post("/detect", content=NORMAL, headers=PNG), 500, "internal", "model")
    (result,) = service.post("/detect/batch", files={"file": ("a", NORMAL)}).json()["results"]
    assert result["status"] == 500


def test_stopping_service_is_not_ready(start_service: ServiceFactory) -> None:
    service = start_service()
    runtime_in(service).health.enter("stopping")
    check_problem(service.get("/readyz"), 503, "unavailable", "stopping")
    check_problem(service.post("/detect", content=NORMAL, headers=PNG), 503, "unavailable", "stopping")
    assert service.get("/healthz").status_code == 200


def test_request_id_is_the_callers_when_it_is_sane(service: TestClient) -> None:
    def answered(request_id: str) -> str:
        return service.get("/healthz", headers={"X-Request-ID": request_id}).headers["x-request-id"]

    assert answered("line-7/shot.42") == "line-7/shot.42"
    assert answered("x" * 128) == "x" * 128
    for wrong in ("x" * 129, "two words", "tab\there", ""):
        assert re.fullmatch("[0-9a-f]{32}", answered(wrong))


def test_server_timing_is_on_every_answer(service: TestClient) -> None:
    timing = service.post("/detect", content=NORMAL, headers=PNG).headers["server-timing"]
    durations = dict(part.split(";dur=") for part in timing.split(", "))
    assert set(durations) == STAGES
    assert all(re.fullmatch(r"\d+\.\d+", duration) for duration in durations.values())
    assert service.get("/nowhere").headers["server-timing"].startswith("total;dur=")


def test_crash_is_a_problem_without_its_inner_text(
    service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr("service.api.models.model_info", crash)
    response = service.get("/models")
    check_problem(response, 500, "internal", "RuntimeError")
    assert "secret" not in response.text
    assert "server-timing" in response.headers


def test_categories_and_models_describe_what_is_loaded(service: TestClient) -> None:
    categories = service.get("/categories").json()["categories"]
    assert [(info["name"], info["calibration_size"], info["alpha"]) for info in categories] == [
        ("brick", 199, 0.01),
        ("slate", 199, 0.01),
    ]
    answer = service.post("/detect", content=NORMAL, headers=PNG).json()
    assert categories[0]["threshold"] == answer["threshold"]
    (model,) = service.get("/models").json()["models"]
    assert (model["name"], model["version"], model["top_k"]) == ("tiny", "1", 3)
    assert model["digest"] == answer["model"]["digest"]
    assert model["categories"] == ["brick", "slate"]
    assert len(model["experts"]) == 6
    assert (model["plan"]["source"], model["plan"]["batch"], model["plan"]["threads"]) == ("rule", 4, 1)
    assert model["plan"]["ms_alone"] > 0
    assert model["plan"]["ms_per_picture"] > 0


def test_health_and_openapi(service: TestClient) -> None:
    assert service.get("/healthz").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready"}
    operation = service.get("/openapi.json").json()["paths"]["/detect"]["post"]
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {parameter["name"] for parameter in operation["parameters"]} >= {"category", "alpha", "map"}
    (alpha,) = (one["schema"] for one in operation["parameters"] if one["name"] == "alpha")
    assert (alpha["type"], "anyOf" in alpha) == ("number", False)  # a query has no null
    body = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"type": "null"} in body["alpha"]["anyOf"]
