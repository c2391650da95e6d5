"""`/zero-shot` over HTTP, with a real bundle and real pictures."""

import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from export.contract.appearance import STATISTICS, appearance
from service.inference.backends.base import GraphError
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput
from service.inference.text_tower import TextTower
from tests.service.conftest import ServiceFactory, encoded, picture
from tests.service.models.test_health import wait_until_ready
from tests.service.whole.test_service import PNG, check_problem, runtime_in
from tests.tiny_zero_shot_bundle import (
    ABNORMAL,
    CONTEXT,
    NORMAL,
    SIZE,
    make_tiny_zero_shot_bundle,
    tiny_normal_scores,
)

BRICK = encoded(picture("brick"))
SPOTTED = encoded(picture("brick", spotted=True))
STAGES = {"decode", "queue", "text", "vision", "head", "encode", "total"}


def post(service: TestClient, *names: str, of: bytes = SPOTTED, **params: Any) -> Response:
    query = {"class_names": list(names), **params}
    return service.post("/zero-shot", content=of, headers=PNG, params=query)


def answered(service: TestClient, *names: str, of: bytes = SPOTTED, **params: Any) -> dict[str, Any]:
    response = post(service, *names, of=of, **params)
    assert response.status_code == 200, response.text
    return response.json()


def values_of(anomaly_map: Mapping[str, str]) -> np.ndarray:
    return np.load(BytesIO(b64decode(anomaly_map["data"])))


def metric(service: TestClient, sample: str) -> float:
    lines = [line.rpartition(" ") for line in service.get("/metrics").text.splitlines()]
    return next((float(value) for name, _, value in lines if name == f"anomoe_{sample}"), 0.0)


def text_metrics(service: TestClient) -> tuple[float, float, float]:
    """Hits, misses, size of the cache."""
    hits, misses = (metric(service, f'text_cache_total{{result="{result}"}}') for result in ("hit", "miss"))
    return hits, misses, metric(service, "text_cache_size")


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


def test_one_name_may_be_a_string(zero_shot_service: TestClient) -> None:
    image = b64encode(SPOTTED).decode()
    in_json = zero_shot_service.post("/zero-shot", json={"image": image, "class_names": "brick"}).json()
    form = zero_shot_service.post("/zero-shot", files={"file": ("a", SPOTTED)}, data={"class_names": "brick"})
    assert in_json["classes"] == form.json()["classes"] == answered(zero_shot_service, "brick")["classes"]


def test_every_name_is_answered_as_it_was_asked_for_and_each_distinct_one_computed_once(
    zero_shot_service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[ZeroShotInput] = []
    run = ZeroShotEngine.run

    def remember(engine: ZeroShotEngine, questions: Sequence[ZeroShotInput]) -> Sequence[object]:
        computed.extend(questions)
        return run(engine, questions)

    monkeypatch.setattr(ZeroShotEngine, "run", remember)
    names = ("caf\u00e9", "  slate ", "brick", "Slate", "cafe\u0301", "🔩", "BRICK_")
    answer = answered(zero_shot_service, *names, maps="all")
    assert [len(one.texts) for one in computed] == [4]
    assert text_metrics(zero_shot_service) == (0, 4, 4)
    by_name = {one.pop("class_name"): one for one in answer["classes"]}
    assert tuple(by_name) == names
    assert answer["best"] == "brick"
    for one, other in (("  slate ", "Slate"), ("brick", "BRICK_"), ("caf\u00e9", "cafe\u0301")):
        assert by_name[one] == by_name[other]
    assert by_name["brick"]["anomaly_map"] == answer["anomaly_map"] != by_name["Slate"]["anomaly_map"]


def test_spellings_of_one_name_have_one_calibration_and_one_text(
    start_service: ServiceFactory, tmp_path: Path
) -> None:
    folder = make_tiny_zero_shot_bundle(tmp_path / "bundle", calibrated=("metal disc",))
    service = start_service(bundles=str(folder))
    spellings = ("metal_disc", "metal disc", "Metal disc", "  metal   disc", "metal-disc", "metal\u200bdisc")
    answers = [answered(service, name) for name in spellings]
    assert [one["best"] for one in answers] == list(spellings)
    assert {one["calibrated"] for one in answers} == {True}
    verdicts = [(one["classes"][0]["score"], one["classes"][0]["threshold"]) for one in answers]
    assert len(set(verdicts)) == 1
    assert text_metrics(service) == (len(spellings) - 1, 1, 1)


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


def test_calibration_of_an_older_bundle_is_found_and_its_own_spelling_encoded(
    start_service: ServiceFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_zero_shot_bundle(tmp_path / "bundle", calibrated=("Geha\u0308use_X-1",))
    service = start_service(bundles=str(folder))
    encoded_names: list[str] = []
    encode = TextTower.run

    def remember(tower: TextTower, names: Sequence[str]) -> Sequence[object]:
        encoded_names.extend(names)
        return encode(tower, names)

    monkeypatch.setattr(TextTower, "run", remember)
    answer = answered(service, "geh\u00e4use x 1", "Geha\u0308use_X-1")
    assert (answer["calibrated"], encoded_names) == (True, ["Geh\u00e4use_X-1"])
    (listed,) = service.get("/categories").json()["categories"]
    assert listed["name"] == "geh\u00e4use x 1"


def test_too_long_a_name_is_shown_as_it_was_asked_for(start_service: ServiceFactory, tmp_path: Path) -> None:
    name = "_".join(["A"] * CONTEXT)
    folder = make_tiny_zero_shot_bundle(tmp_path / "bundle", calibrated=(name.replace("_", " "),))
    response = post(start_service(bundles=str(folder)), "brick", "nut", name)
    check_problem(response, 422, "invalid-parameter", "class_names[2]", "too many tokens", f"'{name}'")


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


def test_domain_changes_how_maps_are_made(zero_shot_service: TestClient) -> None:
    factory, clinic = (
        answered(zero_shot_service, "brick", domain=domain)["classes"][0]["score"]
        for domain in ("industrial", "medical")
    )
    assert factory != clinic


def test_same_name_again_does_not_run_the_text_tower(zero_shot_service: TestClient) -> None:
    """Seen in the metrics, and in the tower itself."""
    assert text_metrics(zero_shot_service) == (0, 0, 0)
    first = answered(zero_shot_service, "brick", "metal nut")
    assert text_metrics(zero_shot_service) == (0, 2, 2)
    runs = metric(zero_shot_service, 'stage_seconds_count{stage="text"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextTower, "run", lambda *_: pytest.fail("the text tower ran"))
        second = answered(zero_shot_service, " metal\tnut", "brick")
    assert text_metrics(zero_shot_service) == (2, 2, 2)
    assert metric(zero_shot_service, 'stage_seconds_count{stage="text"}') == runs > 0
    assert [one["score"] for one in second["classes"]] == [one["score"] for one in first["classes"][::-1]]


def test_names_that_wait_for_the_tower_are_encoded_together(
    zero_shot_service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Sequence[str]] = []
    encode, may_go_on = TextTower.run, threading.Event()

    def remember(tower: TextTower, names: Sequence[str]) -> Sequence[object]:
        runs.append(names)
        assert may_go_on.wait(30)
        return encode(tower, names)

    monkeypatch.setattr(TextTower, "run", remember)
    waiting = runtime_in(zero_shot_service).models.zero_shot().names
    with ThreadPoolExecutor(2) as callers:
        asked = [callers.submit(answered, zero_shot_service, "steel")]
        while not runs:
            time.sleep(0.001)
        asked.append(callers.submit(answered, zero_shot_service, "brick", "slate", "window"))
        while waiting.depth < 3:
            time.sleep(0.001)
        may_go_on.set()
        assert [len(one.result()["classes"]) for one in asked] == [1, 3]
    assert runs == [["steel"], ["brick", "slate", "window"]]


def test_cache_is_bounded_by_its_setting(start_service: ServiceFactory, zero_shot_folder: Path) -> None:
    service = start_service(bundles=str(zero_shot_folder), text_cache_size=2)
    answered(service, "brick", "slate", "window")
    assert text_metrics(service) == (0, 3, 2)
    answered(service, "window", "slate")
    assert text_metrics(service) == (2, 3, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", ("class_names[1]", "no visible character", "''")),
        (" \u0301 ", ("class_names[1]", "no visible character")),
        ("nu\0t", ("class_names[1]", "U+0000", r"'nu\x00t'")),
        ("\u202enut", ("class_names[1]", "U+202E")),
        ("x" * 10_000, ("class_names[1]", "longer than 100", "xxx...")),
        (" ".join(["a"] * CONTEXT), ("class_names", "too many tokens", "'a a")),
    ],
)
def test_odd_names_get_a_clear_answer(
    zero_shot_service: TestClient, name: str, words: tuple[str, ...]
) -> None:
    response = post(zero_shot_service, "brick", name)
    check_problem(response, 422, "invalid-parameter", *words)
    assert len(response.content) < 1500
    body = {"image": b64encode(SPOTTED).decode(), "class_names": ["brick", name]}
    check_problem(zero_shot_service.post("/zero-shot", json=body), 422, "invalid-parameter", *words)


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


def test_service_without_such_a_bundle_says_so(service: TestClient, zero_shot_service: TestClient) -> None:
    check_problem(post(service, "brick"), 404, "unknown-model", "moeclip")
    for query in ({}, {"category": "slate"}):
        response = zero_shot_service.post("/detect", content=BRICK, headers=PNG, params=query)
        check_problem(response, 404, "unknown-model", "anomalymoe")
    assert zero_shot_service.get("/readyz").status_code == 200


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


def test_reload_takes_the_new_bundle_and_keeps_texts_of_the_same_one(
    start_service: ServiceFactory, tmp_path: Path
) -> None:
    """Texts belong to the digest of their bundle."""
    folder = make_tiny_zero_shot_bundle(tmp_path / "bundle")
    service = start_service(bundles=str(folder))
    assert answered(service, "slate")["calibrated"] is False
    reload_bundles(service)
    assert answered(service, "slate")["calibrated"] is False
    assert text_metrics(service) == (1, 1, 1)
    make_tiny_zero_shot_bundle(folder, version="2", calibrated=("slate",))
    reload_bundles(service)
    answer = answered(service, "slate")
    assert (answer["model"]["version"], answer["calibrated"]) == ("2", True)
    assert text_metrics(service) == (1, 2, 2)


def reload_bundles(service: TestClient) -> None:
    assert service.portal is not None
    service.portal.call(runtime_in(service).reload)
