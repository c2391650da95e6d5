"""Sheets of maps: which pictures, what is drawn over them, and where it lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import Fitted
from tests.training.tiny_run import SIZE, quiet_progress, tiny_checkpoint
from training.anomalymoe.analysis.looks import known_test_samples
from training.anomalymoe.analysis.maps import BY_LEVEL, OVERVIEW, draw_columns, overlay, raw_level_maps
from training.anomalymoe.evaluation.evaluate import score_samples
from training.data.pictures import Sample
from training.figures.lettering import LINE
from training.figures.sheet import Column, draw_sheet, one_of_each

GREY = np.full((4, 4, 3), 100, np.uint8)


def sample(category: str, kind: str) -> Sample:
    return Sample(Path(f"{category}-{kind}.png"), category, "test", kind, (), kind != "good")


def test_one_picture_of_each_family_and_category_is_shown() -> None:
    kinds = ("good", "crack", "logical_extra", "logical_missing", "crack")
    samples = [sample(category, kind) for category in ("disc", "square") for kind in kinds]
    assert [(one.category, one.kind) for one in one_of_each(samples)] == [
        ("disc", "crack"),
        ("disc", "logical_extra"),
        ("square", "crack"),
        ("square", "logical_extra"),
    ]


@pytest.mark.parametrize(
    ("raw", "strength"), [(0.0, 0.0), (1.0, 0.0), (3.0, 0.5), (9.0, 1.0), (1e9, 1.0)]
)  # the threshold is 3: a third of it, itself, three times it
def test_the_overlay_turns_orange_around_the_threshold(raw: float, strength: float) -> None:
    tile = overlay(GREY, np.full((8, 8), raw, np.float32), threshold=3.0)
    share = 0.75 * strength
    expected = [100 + share * (colour - 100) for colour in (255, 60, 0)]
    assert tile.shape == GREY.shape
    assert tile[1, 2] == pytest.approx(expected, abs=1)


def test_levels_add_up_to_the_map_of_the_service(fitted: Fitted) -> None:
    checkpoint = tiny_checkpoint()
    samples = [one for one in known_test_samples(checkpoint, fitted.data) if one.category == "disc"]
    maps = raw_level_maps(checkpoint, samples, quiet_progress())
    scored = score_samples(checkpoint, samples, quiet_progress())
    assert len(maps) == len(samples)
    for levels, expected in zip(maps, scored.maps, strict=True):
        assert levels.shape == (3, SIZE, SIZE)
        assert levels.sum(0) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_each_column_shows_the_picture_its_truth_and_every_level(fitted: Fitted) -> None:
    checkpoint = tiny_checkpoint()
    columns = draw_columns(checkpoint, known_test_samples(checkpoint, fitted.data), quiet_progress())
    assert [(one.category, one.kind) for one in columns] == [
        (category, kind) for category in ("disc", "square") for kind in ("logical_missing", "structural_line")
    ]
    for one in columns:
        assert list(one.tiles) == list(BY_LEVEL)
        changed = (one.tiles["truth"] != one.tiles["picture"]).any(-1)
        assert 0 < changed.mean() < 0.5, "the true defect is marked, and nothing else"


def test_a_defect_without_a_mask_is_shown_unmarked(fitted: Fitted) -> None:
    checkpoint = tiny_checkpoint()
    samples = [replace(one, mask_paths=()) for one in known_test_samples(checkpoint, fitted.data)]
    first = draw_columns(checkpoint, samples, quiet_progress())[0]
    assert np.array_equal(first.tiles["truth"], first.tiles["picture"])


def test_the_sheet_holds_every_tile_in_its_place() -> None:
    shades = dict(zip(OVERVIEW, (10, 120, 240), strict=True))
    tiles = {name: np.full((30, 200, 3), shade, np.uint8) for name, shade in shades.items()}
    sheet = np.asarray(draw_sheet([Column("disc", "crack", tiles)] * 3, OVERVIEW))
    assert (sheet[: 2 * LINE].min((1, 2)) < 100).any(), "no headings"
    assert (sheet[-LINE:].min((1, 2)) < 100).any(), "no legend"
    for shade in shades.values():
        rows, columns = np.nonzero((sheet[2 * LINE : -LINE] == shade).all(-1))
        lit = np.bincount(columns, minlength=sheet.shape[1]) >= 30
        assert lit.sum() == 3 * 200
        assert (np.bincount(rows) >= 600).sum() == 30
    order = [int(np.nonzero((sheet == shade).all(-1).sum(1) >= 600)[0][0]) for shade in shades.values()]
    assert order == sorted(order)
