"""The forms of an anomaly map over HTTP, and how large they may be."""

from base64 import b64decode
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.manifest import InputSpec
from service.detection.map_answer import draw_map
from service.images.decode import open_picture
from service.schemas.detect import DetectParameters
from service.schemas.findings import MapEncoding
from tests.service.asking import ANOMALOUS, NORMAL, PNG, check_problem, picture_of
from tests.service.conftest import encoded
from tests.tiny_bundle import SIZE


@pytest.mark.parametrize(
    ("encoding", "mode"), [("png", "L"), ("png16", "I;16"), ("overlay", "RGB"), ("npy", ""), ("none", "")]
)
@pytest.mark.parametrize(("map_size", "size"), [("input", (56, 42)), ("model", (SIZE, SIZE))])
def test_every_form_of_the_map(
    service: TestClient, encoding: str, mode: str, map_size: str, size: tuple[int, int]
) -> None:
    params = {"map": encoding, "map_size": map_size}
    answer = service.post("/detect", content=ANOMALOUS, headers=PNG, params=params).json()
    if encoding == "none":
        assert answer["anomaly_map"] is None
    elif encoding == "npy":
        values = np.load(BytesIO(b64decode(answer["anomaly_map"]["data"])))
        assert values.shape == size[::-1]
        assert 0.5 < values.max() < 1
    else:
        assert (picture_of(answer).mode, picture_of(answer).size) == (mode, size)


def test_maps_that_make_an_answer_too_large_are_refused(
    service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(b64decode(service.post("/detect", content=NORMAL, headers=PNG).json()["anomaly_map"]["data"]))
    monkeypatch.setattr("service.detection.map_answer.MOST_MAP_BYTES", size - 1)
    check_problem(service.post("/detect", content=NORMAL, headers=PNG), 413, "too-large", "map", str(size))
    monkeypatch.setattr("service.detection.map_answer.MOST_MAP_BYTES", 2 * size + 4)
    monkeypatch.setattr("service.detection.anomalymoe.MOST_MAP_BYTES", 2 * size + 4)
    response = service.post("/detect/batch", files=[("file", ("a", NORMAL))] * 3)
    results = response.json()["results"]
    assert sorted(result.get("status", 200) for result in results) == [200, 200, 413]
    assert service.post("/detect/batch?map=none", files=[("file", ("a", NORMAL))] * 3).status_code == 200


def test_a_picture_has_the_same_score_with_every_map(service: TestClient) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    answers = [
        service.post(f"/detect?map={name}", content=encoded(noise, "jpeg"), headers=PNG).json()
        for name in get_args(MapEncoding)
    ]
    assert len({answer["raw_score"] for answer in answers}) == 1


def test_a_map_that_is_not_packed_is_refused_before_it_is_made(
    service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.detection.map_answer.MOST_MAP_BYTES", 56 * 42 * 4 - 1)
    monkeypatch.setattr("service.detection.map_answer.encode_map", pytest.fail)
    refused = service.post("/detect?map=npy", content=NORMAL, headers=PNG)
    check_problem(refused, 413, "too-large", "56 x 42", str(56 * 42 * 4))


def test_an_overlay_at_the_models_size_shows_what_the_model_sees() -> None:
    spec = InputSpec(height=28, width=28, crop=0.5)
    picture = Image.new("RGB", (80, 40), "red")
    picture.paste("green", (20, 10, 60, 30))
    opened = open_picture(encoded(picture), spec, 10_000)
    parameters = DetectParameters(map="overlay", map_size="model")
    drawn = draw_map(opened, np.zeros((28, 28), np.float32), 1.0, parameters, spec)
    assert drawn is not None
    shown = Image.open(BytesIO(b64decode(drawn.data))).crop(
        (4, 4, 24, 24)
    )  # away from the edge, which is mixed
    assert shown.getcolors() == [(20 * 20, (0, 128, 0))]
