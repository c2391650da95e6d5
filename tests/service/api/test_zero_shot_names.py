"""Class names of `/zero-shot`: every spelling is answered, each distinct text computed once and kept."""

import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.inference.moeclip import ZeroShotEngine, ZeroShotInput
from service.inference.text_tower import TextTower
from tests.service.api.zero_shot import SPOTTED, answered, metric, post, text_metrics
from tests.service.asking import check_problem, runtime_in
from tests.service.conftest import ServiceFactory
from tests.tiny_zero_shot_bundle import CONTEXT, make_tiny_zero_shot_bundle


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
