"""Maps of `/zero-shot`: with every name, in every form, bounded together."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.api.zero_shot import answered, post, values_of
from tests.service.asking import check_problem
from tests.service.conftest import ServiceFactory, encoded, picture
from tests.tiny_zero_shot_bundle import SIZE, tiny_normal_scores


def test_a_map_with_every_name(zero_shot_service: TestClient) -> None:
    answer = answered(zero_shot_service, "slate", "brick", map="npy", maps="all", map_size="model")
    slate, brick = (values_of(one["anomaly_map"]) for one in answer["classes"])
    assert slate.shape == brick.shape == (SIZE, SIZE)
    assert not np.array_equal(slate, brick)
    np.testing.assert_array_equal(brick, values_of(answer["anomaly_map"]))
    none = answered(zero_shot_service, "slate", "brick", map="none", maps="all")
    assert [none["anomaly_map"], *(one["anomaly_map"] for one in none["classes"])] == [None] * 3


@pytest.mark.parametrize(("encoding", "mode"), [("png", "L"), ("png16", "I;16"), ("overlay", "RGB")])
@pytest.mark.parametrize(("map_size", "size"), [("input", (80, 60)), ("model", (SIZE, SIZE))])
def test_every_form_of_the_map(
    zero_shot_service: TestClient, encoding: str, mode: str, map_size: str, size: tuple[int, int]
) -> None:
    answer = answered(zero_shot_service, "brick", map=encoding, map_size=map_size)
    shown = Image.open(BytesIO(b64decode(answer["anomaly_map"]["data"])))
    assert (shown.mode, shown.size, answer["anomaly_map"]["encoding"]) == (mode, size, encoding)


def test_a_large_picture_gets_its_map(zero_shot_service: TestClient) -> None:
    large = encoded(picture("brick").resize((1040, 1020)))
    anomaly_map = answered(zero_shot_service, "brick", of=large)["anomaly_map"]
    assert (anomaly_map["width"], anomaly_map["height"]) == (1040, 1020)


def test_half_of_the_map_is_the_pixel_threshold(zero_shot_service: TestClient) -> None:
    """Display values v of a map m held against t are m / (m + t), so t = m (1 - v) / v for every pixel."""
    raw = answered(zero_shot_service, "slate", map="npy", map_size="model", threshold=1)
    shown = values_of(raw["anomaly_map"])
    values = shown / (1 - shown)
    cases: list[tuple[dict[str, Any], float]] = [
        ({}, tiny_normal_scores("slate").peaks[-1]),
        ({"threshold": 0.25}, 0.25),
    ]
    for params, wanted in cases:
        answer = answered(zero_shot_service, "slate", map="npy", map_size="model", **params)
        display = values_of(answer["anomaly_map"])
        np.testing.assert_allclose(display, values / (values + wanted), rtol=1e-4, atol=1e-7)


def test_maps_together_are_bounded_as_a_picture_is(
    start_service: ServiceFactory, zero_shot_folder: Path
) -> None:
    service = start_service(bundles=str(zero_shot_folder), max_pixels=2 * 80 * 60)
    names = ("brick", "slate", "window")
    check_problem(post(service, *names, maps="all"), 413, "too-large", "3 maps of 80 x 60", "map_size=model")
    assert answered(service, *names, maps="all", map_size="model")["best"] == "brick"
    assert answered(service, *names, maps="all", map="none")["best"] == "brick"
    assert answered(service, *names[:2], maps="all")["best"] == "brick"
    assert answered(service, *names)["best"] == "brick"


def test_maps_together_have_as_many_bytes_as_an_answer_may_hold(
    zero_shot_service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("brick", "slate", "window")
    npy: dict[str, Any] = {"map": "npy", "map_size": "model"}
    size = len(b64decode(answered(zero_shot_service, "brick", **npy)["anomaly_map"]["data"]))
    monkeypatch.setattr("service.detection.zero_shot_answer.MOST_MAP_BYTES", 3 * size - 1)
    assert answered(zero_shot_service, *names[:2], maps="all", **npy)["best"] == "brick"
    response = post(zero_shot_service, *names, maps="all", **npy)
    check_problem(response, 413, "too-large", "3 of 3 maps", "map=png")
