"""`/zero-shot` over HTTP, with a real bundle and real pictures."""

import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.appearance import STATISTICS, appearance
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput
from tests.service.api.zero_shot import BRICK, SPOTTED, answered, metric, post
from tests.service.asking import PNG, runtime_in
from tests.service.conftest import ServiceFactory, encoded, picture
from tests.tiny_zero_shot_bundle import (
    ABNORMAL,
    CONTEXT,
    NORMAL,
    SIZE,
    make_tiny_zero_shot_bundle,
    tiny_normal_scores,
)

STAGES = {"decode", "queue", "text", "vision", "head", "encode", "total"}


def test_answer_has_every_field_and_they_agree(zero_shot_service: TestClient) -> None:
    response = post(zero_shot_service, "slate", "brick")
    answer = response.json()
    assert response.status_code == 200
    assert set(answer) == {
        "request_id", "model", "calibrated", "best", "classes", "anomaly_map", "timings_ms", "batch_size"
    }  # fmt: skip
    assert answer["model"]["name"] == "tiny-zero-shot"
    assert (answer["best"], answer["calibrated"], answer["batch_size"]) == ("brick", False, 1)
    slate, brick = answer["classes"]
    assert (slate["class_name"], brick["class_name"]) == ("slate", "brick")
    assert (brick["threshold"], brick["is_anomalous"]) == (0.5, True)
    assert 0.5 < brick["score"] <= 1
    assert brick["anomaly_map"] is slate["anomaly_map"] is None
    assert set(answer["timings_ms"]) == STAGES
    assert response.headers["server-timing"].startswith("decode;dur=")
    assert "text;dur=" in response.headers["server-timing"]
    shown = Image.open(BytesIO(b64decode(answer["anomaly_map"]["data"])))
    assert (shown.mode, shown.size) == ("L", (80, 60))
    pixels = np.asarray(shown)
    assert pixels[24, 32] > 127 > pixels[55, 75]


def test_normal_picture_is_below_the_threshold_everywhere(zero_shot_service: TestClient) -> None:
    answer = answered(zero_shot_service, "brick", of=BRICK)
    assert (answer["best"], answer["classes"][0]["is_anomalous"]) == ("brick", False)
    assert np.asarray(Image.open(BytesIO(b64decode(answer["anomaly_map"]["data"])))).max() <= 127


def test_every_form_of_the_body_gives_the_same_answer(zero_shot_service: TestClient) -> None:
    names, wanted = ["slate", "brick"], {"map": "npy", "domain": "medical", "threshold": "0.4", "maps": "all"}
    fields = {"class_names": names, **wanted}
    request = zero_shot_service.post
    image = b64encode(SPOTTED).decode()
    responses = [
        request("/zero-shot", content=SPOTTED, headers=PNG, params=fields),
        request("/zero-shot", content=SPOTTED, params=fields),
        request("/zero-shot", files={"file": ("a.png", SPOTTED)}, data=fields),
        request("/zero-shot", files={"file": ("a.png", SPOTTED)}, data=wanted, params={"class_names": names}),
        request("/zero-shot", json={"image": image, **fields, "threshold": 0.4}),
        request("/zero-shot", json={"image": image, "class_names": names}, params=wanted),
    ]
    answers = [response.json() for response in responses]
    for answer in answers:
        for varying in ("request_id", "timings_ms"):
            answer.pop(varying)
    assert all(answer == answers[0] for answer in answers)
    assert [one["threshold"] for one in answers[0]["classes"]] == [0.4, 0.4]


def test_a_picture_unlike_those_that_calibrated_its_name_is_anomalous(
    start_service: ServiceFactory, tmp_path: Path
) -> None:
    """To the model a brick in the dark is a brick without damage."""
    service = start_service(
        bundles=str(make_tiny_zero_shot_bundle(tmp_path / "bundle", calibrated=("brick",)))
    )
    dark = encoded(picture("brick").point(lambda value: value * 0.3))
    scores = runtime_in(service).models.zero_shot().bundle.class_scores
    assert not answered(service, "brick", of=dark)["classes"][0]["is_anomalous"]
    look = appearance(np.asarray(picture("brick").resize((SIZE, SIZE))))
    whitening = np.eye(STATISTICS, dtype=np.float32)
    scores["brick"] = replace(scores["brick"], appearance_mean=look, appearance_whitening=whitening)
    for of, wanted in ((BRICK, False), (dark, True)):
        answer = answered(service, "brick", of=of)
        assert (answer["calibrated"], answer["classes"][0]["is_anomalous"]) == (True, wanted)


def test_thresholds_are_given_or_fitted_or_the_default(zero_shot_service: TestClient) -> None:
    fitted = tiny_normal_scores("slate")
    default = answered(zero_shot_service, "slate", "brick")
    assert [one["threshold"] for one in default["classes"]] == [pytest.approx(fitted.scores[-1]), 0.5]
    assert default["calibrated"] is False
    own = answered(zero_shot_service, "slate")
    assert (own["calibrated"], own["classes"][0]["threshold"]) == (True, pytest.approx(fitted.scores[-1]))
    medical = answered(zero_shot_service, "slate", domain="medical")  # fitted on industrial pictures
    assert (medical["calibrated"], medical["classes"][0]["threshold"]) == (False, 0.5)
    given = answered(zero_shot_service, "slate", "brick", threshold=0.999)
    assert given["calibrated"] is True
    assert [(one["threshold"], one["is_anomalous"]) for one in given["classes"]] == [
        (0.999, one["score"] > 0.999) for one in default["classes"]
    ]


@pytest.mark.parametrize("threshold", [0, 1])
def test_threshold_may_be_at_either_end(zero_shot_service: TestClient, threshold: float) -> None:
    answer = answered(zero_shot_service, "brick", threshold=threshold)
    assert answer["classes"][0]["is_anomalous"] is (threshold == 0)


def test_domain_changes_how_maps_are_made(zero_shot_service: TestClient) -> None:
    factory, clinic = (
        answered(zero_shot_service, "brick", domain=domain)["classes"][0]["score"]
        for domain in ("industrial", "medical")
    )
    assert factory != clinic


def test_pictures_with_different_numbers_of_names_share_a_batch(
    zero_shot_service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait while the first is computed are computed together, each for its own names."""
    wanted = [("brick",), ("slate", "brick"), ("window", "slate", "brick")]
    alone = [answered(zero_shot_service, *names)["classes"] for names in wanted]
    gate, entered = threading.Event(), threading.Event()
    compute = ZeroShotEngine.run

    def wait(engine: ZeroShotEngine, questions: Sequence[ZeroShotInput]) -> Sequence[object]:
        entered.set()
        assert gate.wait(5)
        return compute(engine, questions)

    monkeypatch.setattr(ZeroShotEngine, "run", wait)
    batcher = runtime_in(zero_shot_service).models.zero_shot().pipeline.small.batcher
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(answered, zero_shot_service, "brick")
        assert entered.wait(5)
        others = [callers.submit(answered, zero_shot_service, *names) for names in wanted]
        for _ in _patience():
            if batcher.depth == len(wanted):
                break
        gate.set()
        assert first.result()["batch_size"] == 1
        answers = [other.result() for other in others]
    assert [answer["batch_size"] for answer in answers] == [3, 3, 3]
    for answer, classes in zip(answers, alone, strict=True):
        assert [one["class_name"] for one in answer["classes"]] == [one["class_name"] for one in classes]
        assert [one["score"] for one in answer["classes"]] == pytest.approx([one["score"] for one in classes])


def _patience() -> Iterator[None]:
    pause = threading.Event()
    for _ in range(500):
        yield
        pause.wait(0.01)
    pytest.fail("the pictures did not come to wait")


def test_pictures_are_counted_under_one_label(zero_shot_service: TestClient) -> None:
    answered(zero_shot_service, "brick")
    answered(zero_shot_service, "brick", "slate", of=BRICK)
    assert metric(zero_shot_service, 'images_total{category="zero-shot"}') == 2
    assert metric(zero_shot_service, 'anomalies_total{category="zero-shot"}') == 1
    assert metric(zero_shot_service, 'score_count{category="zero-shot"}') == 2
    for stage in ("decode", "vision", "head", "encode"):
        assert metric(zero_shot_service, f'stage_seconds_count{{stage="{stage}"}}') == 2
    assert metric(zero_shot_service, "queue_seconds_count") == 2
    assert metric(zero_shot_service, "batch_size_count") == 2
    text = zero_shot_service.get("/metrics").text
    assert "brick" not in text
    assert 'kind="moeclip"' in text


def test_both_kinds_are_served_side_by_side(
    start_service: ServiceFactory, bundle_folder: Path, zero_shot_folder: Path
) -> None:
    """The zero-shot bundle comes first and knows `slate` too, but never answers /detect."""
    service = start_service(bundles=f"{zero_shot_folder},{bundle_folder}")
    for query in ({}, {"category": "slate"}):
        detected = service.post("/detect", content=BRICK, headers=PNG, params=query).json()
        assert detected["model"]["name"] == "tiny"
    assert answered(service, "brick")["model"]["name"] == "tiny-zero-shot"
    zero_shot, trained = service.get("/models").json()["models"]
    assert (zero_shot["kind"], zero_shot["experts"], zero_shot["categories"]) == ("moeclip", [], ["slate"])
    assert zero_shot["zero_shot"] == {
        "context_length": CONTEXT, "normal": list(NORMAL), "abnormal": list(ABNORMAL), "threshold": 0.5
    }  # fmt: skip
    assert (trained["kind"], trained["zero_shot"]) == ("anomalymoe", None)
    listed = service.get("/categories").json()["categories"]
    assert [(one["name"], one["kind"]) for one in listed] == [
        ("slate", "moeclip"),
        ("brick", "anomalymoe"),
        ("slate", "anomalymoe"),
    ]
    assert listed[0]["threshold"] == answered(service, "slate")["classes"][0]["threshold"]


def test_openapi_describes_body_and_parameters(zero_shot_service: TestClient) -> None:
    operation = zero_shot_service.get("/openapi.json").json()["paths"]["/zero-shot"]["post"]
    contents = operation["requestBody"]["content"]
    assert set(contents) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    names = {"class_names", "domain", "threshold", "map", "map_size", "maps", "bit_depth"}
    assert {parameter["name"] for parameter in operation["parameters"]} == names | {"X-Client-ID"}
    for kind, picture_field in (("multipart/form-data", "file"), ("application/json", "image")):
        schema = contents[kind]["schema"]
        assert set(schema["properties"]) == {picture_field, *names}
        assert (schema["required"], schema["additionalProperties"]) == ([picture_field], False)
