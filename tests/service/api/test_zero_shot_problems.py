"""What `/zero-shot` refuses or cannot compute is a problem with its reason."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.inference.backends.base import GraphError
from service.inference.moeclip import ZeroShotEngine
from service.inference.text_tower import TextTower
from tests.service.api.zero_shot import BRICK, SPOTTED, answered, metric, post
from tests.service.asking import PNG, check_problem, runtime_in, wait_until_ready
from tests.service.conftest import ServiceFactory


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"threshold": "2"}, ("threshold", "2")),
        ({"threshold": "nan"}, ("threshold", "nan")),
        ({"domain": "kitchen"}, ("domain", "kitchen")),
        ({"map": "jpeg"}, ("map", "jpeg")),
        ({"maps": "some"}, ("maps", "some")),
        ({"map_size": ["model", "input"]}, ("map_size", "['model', 'input']")),
        ({"category": "brick"}, ("category", "brick")),
    ],
)
def test_wrong_parameter_is_named_with_its_value(
    zero_shot_service: TestClient, params: dict[str, Any], words: tuple[str, ...]
) -> None:
    check_problem(post(zero_shot_service, "brick", **params), 422, "invalid-parameter", *words)


def test_wrong_names_are_problems(start_service: ServiceFactory, zero_shot_folder: Path) -> None:
    service = start_service(bundles=str(zero_shot_folder), max_class_names=2, max_class_name_length=5)
    check_problem(post(service), 422, "invalid-parameter", "class_names", "required")
    check_problem(post(service, "a", "b", "c"), 422, "invalid-parameter", "class_names", "1 to 2", "got 3")
    check_problem(
        post(service, "window"), 422, "invalid-parameter", "class_names[0]", "longer than 5", "window"
    )
    image = b64encode(SPOTTED).decode()
    for wrong, place in (([], "class_names"), (5, "class_names"), (["a", 5], "class_names[1]")):
        response = service.post("/zero-shot", json={"image": image, "class_names": wrong})
        check_problem(response, 422, "invalid-parameter", place)
    response = service.post("/zero-shot", json={"image": image, "class_names": "a", "threshold": True})
    check_problem(response, 422, "invalid-parameter", "threshold", "True")


def test_masses_of_wrong_values_get_a_short_answer(zero_shot_service: TestClient) -> None:
    """As many errors as values would take a thousand times the memory of the body."""
    image = b64encode(SPOTTED).decode()
    masses: list[dict[str, Any]] = [
        {"class_names": [1] * 100_000},
        {"class_names": [1] * 900},
        {"class_names": ["brick"], **{str(number): 1 for number in range(10_000)}},
        {"class_names": ["brick"], **{str(number): 1 for number in range(90)}},
    ]
    for wrong, words in zip(masses, ("at most 1000", "class_names[9]", "10001", "9: extra"), strict=True):
        response = zero_shot_service.post("/zero-shot", json={"image": image, **wrong})
        check_problem(response, 422, "invalid-parameter", words)
        assert len(response.content) < 5000


def test_wrong_bodies_are_problems(zero_shot_service: TestClient) -> None:
    check_problem(post(zero_shot_service, "brick", of=b""), 400, "malformed", "empty")
    check_problem(post(zero_shot_service, "brick", of=b"text"), 415, "not-a-picture")
    check_problem(post(zero_shot_service, "brick", of=SPOTTED[:100]), 422, "undecodable-picture")
    several = [("file", ("a", BRICK)), ("file", ("b", BRICK))]
    response = zero_shot_service.post("/zero-shot", files=several, data={"class_names": "brick"})
    check_problem(response, 422, "invalid-parameter", "file")


def test_full_service_says_when_to_come_back(zero_shot_service: TestClient) -> None:
    runtime_in(zero_shot_service).permits.requests.limit = 0
    response = post(zero_shot_service, "brick")
    check_problem(response, 429, "busy")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("part", "names"), [(ZeroShotEngine, ["brick"]), (TextTower, ["window"])])
def test_failing_model_is_a_problem_and_the_next_request_is_answered(
    zero_shot_service: TestClient, part: type, names: list[str]
) -> None:
    answered(zero_shot_service, "brick")

    def fail(_: object, items: Sequence[object]) -> list[GraphError]:
        return [GraphError("out of memory") for _ in items]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "run", fail)
        check_problem(post(zero_shot_service, *names), 500, "internal", "model")
    assert answered(zero_shot_service, *names)


def test_dead_text_tower_is_told_and_made_anew(
    zero_shot_service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = TextTower.run

    def die_once(*_: object) -> None:
        monkeypatch.setattr(TextTower, "run", encode)
        raise SystemExit

    monkeypatch.setattr(TextTower, "run", die_once)
    check_problem(post(zero_shot_service, "brick"), 503, "unavailable", "text: a thread died")
    wait_until_ready(zero_shot_service)
    assert answered(zero_shot_service, "brick")["best"] == "brick"
    assert metric(zero_shot_service, 'stage_failures_total{stage="text"}') == 1


def test_service_without_such_a_bundle_says_so(service: TestClient, zero_shot_service: TestClient) -> None:
    check_problem(post(service, "brick"), 404, "unknown-model", "moeclip")
    for query in ({}, {"category": "slate"}):
        response = zero_shot_service.post("/detect", content=BRICK, headers=PNG, params=query)
        check_problem(response, 404, "unknown-model", "anomalymoe")
    assert zero_shot_service.get("/readyz").status_code == 200
