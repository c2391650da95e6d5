"""Pictures that an inspector has judged: kept where training finds them, and never too many."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.detection.feedback import FeedbackStore
from service.errors import Problem
from tests.service.conftest import ServiceFactory, encoded, picture
from training.data.sets.reading import read_folder

PNG = {"Content-Type": "image/png"}


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def numbered(number: int, size: int = 100) -> bytes:
    """Bytes that begin like a picture, each number's its own."""
    return b"\xff\xd8\xff" + number.to_bytes(2, "big") + bytes(size - 5)


def test_a_picture_is_kept_with_answer_and_judgement(start_service: ServiceFactory, tmp_path: Path) -> None:
    service = start_service(feedback_dir=tmp_path / "kept")
    data = encoded(picture("brick"))
    answer = {"category": "brick", "raw_score": 0.5}
    fields = {"judgement": "ok", "category": "brick", "answer": json.dumps(answer)}
    response = service.post("/feedback", files={"file": ("one.png", data)}, data=fields)
    assert response.status_code == 201
    stored = tmp_path / "kept" / response.json()["path"]
    assert stored.parent == tmp_path / "kept" / "brick" / "train" / "good"
    assert stored.read_bytes() == data
    record = json.loads(stored.with_suffix(".json").read_text())
    assert record == {"judgement": "ok", "category": "brick", "answer": answer}


def test_the_folder_is_a_data_set(start_service: ServiceFactory, tmp_path: Path) -> None:
    service = start_service(feedback_dir=tmp_path)
    for colour, spotted, judgement in (("brick", False, "ok"), ("brick", True, "ng"), ("slate", False, "ok")):
        query = {"judgement": judgement, "category": colour}
        data = encoded(picture(colour, spotted=spotted))
        assert service.post("/feedback", params=query, content=data, headers=PNG).status_code == 201
    samples = read_folder(tmp_path)
    found = {(one.category, one.split, one.kind) for one in samples}
    assert found == {("brick", "train", "good"), ("brick", "test", "ng"), ("slate", "train", "good")}


def test_the_last_judgement_of_a_picture_counts(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, 10_000)
    store.keep(numbered(1), "tile", "ok", None)
    path = store.keep(numbered(1), None, "ng", {"score": 1})
    assert files(tmp_path) == sorted([path.as_posix(), path.with_suffix(".json").as_posix()])
    assert path.parent.as_posix() == "unknown/test/ng"


def test_the_oldest_go_first_and_other_files_stay(tmp_path: Path) -> None:
    mine = tmp_path / "tile" / "train" / "good" / "mine.jpeg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(5000))
    store = FeedbackStore(tmp_path, 1000)
    paths = [store.keep(numbered(number), "tile", ("ok", "ng")[number % 2], None) for number in range(20)]
    kept = [path for path in paths if (tmp_path / path).exists()]
    own = [tmp_path / name for name in files(tmp_path) if name != "tile/train/good/mine.jpeg"]
    assert mine.exists()
    assert kept == paths[-len(kept) :]
    assert 3 < len(kept) < 10
    assert len(own) == 2 * len(kept)  # each with its answer
    assert sum(path.stat().st_size for path in own) <= 1000


@pytest.mark.parametrize("category", ["../out", "a/b", "..", ".hidden", "a\\b", "a\nb", "x" * 101])
def test_a_category_that_is_no_folder_name_is_refused(category: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="category: ") as caught:
        FeedbackStore(tmp_path / "kept", 1000).keep(numbered(1), category, "ok", None)
    assert caught.value.kind.status == 422
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("query", "data", "status", "told"),
    [
        ({"judgement": "fine"}, numbered(1), 422, "judgement: "),
        ({}, numbered(1), 422, "judgement: "),
        ({"judgement": "ok", "answer": "no JSON"}, numbered(1), 422, "answer"),
        ({"judgement": "ok"}, b"hello", 415, "file: "),
        ({"judgement": "ok"}, numbered(1, 2000), 413, "feedback: "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_kept(
    start_service: ServiceFactory, tmp_path: Path, query: dict[str, str], data: bytes, status: int, told: str
) -> None:
    service = start_service(feedback_dir=tmp_path, feedback_bytes=1000)
    response = service.post("/feedback", params=query, content=data, headers=PNG)
    assert response.status_code == status
    assert told in response.json()["detail"]
    assert files(tmp_path) == []


def test_nothing_is_kept_unless_a_folder_is_set(service: TestClient) -> None:
    response = service.post("/feedback", params={"judgement": "ok"}, content=numbered(1), headers=PNG)
    assert response.status_code == 404
    assert "ANOMOE_FEEDBACK_DIR is not set" in response.json()["detail"]
    assert 'data-feedback="off"' in service.get("/").text


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, 1000)
    (tmp_path / "tile").write_text("a file where a folder is wanted")
    with pytest.raises(Problem, match="feedback_dir: Not a directory"):
        store.keep(numbered(1), "tile", "ok", None)
