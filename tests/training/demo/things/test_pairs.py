import json
from pathlib import Path

import numpy as np
import pytest

from training.demo.things.pairs import FACTS, PICTURES, Pairs, draw_pair, draw_pairs
from training.demo.things.scene import SIZE
from training.demo.things.split import CAPTIONED


def test_pairs_are_written_and_read_as_they_are_drawn(tmp_path: Path) -> None:
    draw_pairs(tmp_path, 3, seed=2)
    pairs = Pairs.read(tmp_path)
    assert pairs.pictures.shape == (3, 2, SIZE, SIZE, 3)
    for index in range(3):
        pictures, facts = draw_pair(index, seed=2)
        np.testing.assert_array_equal(pairs.pictures[index], pictures)
        assert pairs.facts[index] == facts
        assert facts.thing == CAPTIONED[index]
        assert facts.damage is not None


def test_the_place_is_where_the_twins_differ() -> None:
    pictures, facts = draw_pair(17, seed=0)
    rows, columns = np.nonzero(np.abs(pictures[0].astype(int) - pictures[1]).max(2) > 40)
    assert facts.place == (int(rows.mean() * 3 // SIZE), int(columns.mean() * 3 // SIZE))


def test_progress_ends_at_the_number_of_pairs(tmp_path: Path) -> None:
    seen: list[int] = []
    draw_pairs(tmp_path, 2, progress=seen.append)
    assert seen == [2]


def test_facts_of_other_pictures_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / PICTURES, np.zeros((2, 2, SIZE, SIZE, 3), np.uint8))
    (tmp_path / FACTS).write_text(json.dumps([["box", "wood", "brown", "dent", 0, 0]]))
    with pytest.raises(ValueError, match="2 pairs of pictures but 1 facts"):
        Pairs.read(tmp_path)
