"""Scores on disk: batches are not scored twice, other keys start anew, and no other folder is removed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.tiny_run import quiet_progress
from training.data.pictures import Sample
from training.runs.kept_scores import Batch, KeptMaps, KeptScores, keep_scores, kept_in


def pictures(count: int = 5) -> list[Sample]:
    return [Sample(Path(str(row)), "tile", "test", "good", (), is_anomalous=False) for row in range(count)]


def score(members: Sequence[Sample]) -> Batch:
    return {"score": np.array([float(one.path.name) for one in members])}


def keep(folder: Path | None) -> KeptScores:
    return keep_scores(folder, pictures(), 2, score, quiet_progress(), "score")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_batches_are_read_in_order_and_by_number(tmp_path: Path, where: str) -> None:
    kept = keep(tmp_path if where == "disk" else None)
    assert kept.all("score").tolist() == [0, 1, 2, 3, 4]
    maps = KeptMaps(kept, lambda part: part["score"][:, None, None] * np.ones((1, 2, 2)))
    assert [one[0, 0] for one in maps] == [maps[row][0, 0] for row in range(len(maps))] == [0, 1, 2, 3, 4]
    assert maps[-1].shape == (2, 2)
    assert [one[0, 0] for one in maps[1:3]] == [1, 2]


def stopped(state: Path, key: str) -> None:
    """An evaluation that ends before its last batch."""

    def broken(members: Sequence[Sample]) -> Batch:
        if members[0].path.name == "4":
            raise KeyboardInterrupt
        return score(members)

    with kept_in(state, key) as folder:
        keep_scores(folder, pictures(), 2, broken, quiet_progress(), "score")


def test_what_is_there_is_not_scored_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "state", "a")
    seen: list[str] = []

    def counting(members: Sequence[Sample]) -> Batch:
        seen.extend(one.path.name for one in members)
        return score(members)

    with kept_in(tmp_path / "state", "a") as folder:
        kept = keep_scores(folder, pictures(), 2, counting, quiet_progress(), "score")
        assert kept.all("score").tolist() == [0, 1, 2, 3, 4]
    assert seen == ["4"]
    assert not (tmp_path / "state").exists()


def test_no_category_leads_out_of_the_folder(tmp_path: Path) -> None:
    for name in ("..", "a/b", "/tmp/c"):
        members = [replace(one, category=name) for one in pictures()]
        kept = keep_scores(tmp_path, members, 2, score, quiet_progress(), "score")
        assert kept.folder is not None
        assert kept.folder.resolve().parent == tmp_path.resolve()


def test_another_key_starts_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "state", "a")
    with kept_in(tmp_path / "state", "b") as folder:
        assert [one.name for one in folder.iterdir()] == ["key.txt"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no scores"), kept_in(tmp_path, "a"):
        pass
    assert (tmp_path / "notes").read_text() == "mine"
