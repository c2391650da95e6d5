"""Figures of pictures that anything scored, one map at a time; and sheets of examples."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.manifest import InputSpec
from tests.training.data.drawn import save, save_mask
from training.data.pictures import Sample
from training.metrics import Metrics
from training.reporting import measuring
from training.reporting.measuring import by_category, category_rows
from training.reporting.scored import Floats, Scored
from training.reporting.sheets import dividing_line, draw_examples, examples

SPEC = InputSpec(height=2, width=2)
GOOD, MARKED, UNMARKED = np.array([[[1, 2], [3, 4]], [[5, 1], [1, 1]], [[9, 9], [9, 9]]], dtype=np.float32)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """A good picture, one with its upper left marked, and one whose defect is not marked."""
    names = ("good", "marked", "unmarked")
    paths = [save(tmp_path / f"{name}.png", size=(2, 2)) for name in names]
    mask = save_mask(tmp_path / "mask.png", (0, 0, 1, 1), size=(2, 2))
    good = Sample(paths[0], "tile", "test", "good", (), is_anomalous=False)
    marked = Sample(paths[1], "tile", "test", "crack", (mask,), is_anomalous=True)
    return [good, marked, replace(marked, path=paths[2], mask_paths=())]


def scored(samples: list[Sample], scores: list[float], rows: list[int] | None = None) -> Scored:
    chosen = rows or [*range(len(samples))]
    maps = [(GOOD, MARKED, UNMARKED)[row] for row in chosen]
    levels = np.empty((len(chosen), 0))
    return Scored([samples[row] for row in chosen], np.array(scores), levels, maps)


def figures(samples: list[Sample], scores: list[float], rows: list[int] | None = None) -> Metrics:
    return category_rows("tile", scored(samples, scores, rows), SPEC)[0].metrics


def test_all_figures(samples: list[Sample]) -> None:
    assert figures(samples, [0.1, 0.9, 0.8]) == Metrics(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_missing_mask_leaves_only_the_pixel_figures(samples: list[Sample]) -> None:
    # With the third map's nines counted as normal the pixel figures would drop.
    found = figures(samples, [0.1, 0.9, 0.0])
    assert found.image_auroc == pytest.approx(0.5)
    assert found.pixel_auroc == pytest.approx(1.0)


def test_without_any_mask_there_are_no_pixel_figures(samples: list[Sample]) -> None:
    found = figures(samples, [0.1, 0.8], rows=[0, 2])
    assert (found.image_auroc, found.pixel_auroc, found.aupro) == (1.0, None, None)


def test_without_normal_pictures_there_are_no_image_figures(samples: list[Sample]) -> None:
    found = figures(samples, [0.9], rows=[1])
    assert found == Metrics(None, None, None, 1.0, 1.0, 1.0, 1.0)


def test_figures_at_the_threshold_and_their_intervals(samples: list[Sample]) -> None:
    alarms = np.array([True, True, False])
    judged = replace(scored(samples, [0.5, 0.9, 0.1]), alarms=alarms, pixel_threshold=2.5)
    (row, _) = category_rows("tile", judged, SPEC)
    assert (row.false_positive_rate, row.recall) == (1.0, 0.5)
    assert (row.pixel_f1, row.pixel_iou) == (pytest.approx(0.5), pytest.approx(1 / 3))
    assert row.intervals["recall"] == (0.0, 1.0)
    assert row.intervals["image_auroc"] == (0.0, 1.0)
    assert row.intervals["pixel_f1"] == (pytest.approx(0.5), pytest.approx(0.5))


def test_good_pictures_come_first(samples: list[Sample]) -> None:
    assert by_category(samples[::-1])["tile"][0] is samples[0]


class Counted:
    """Maps that are made when they are asked for, and how many of them are held at once."""

    def __init__(self, count: int) -> None:
        self.count, self.held, self.most = count, 0, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Floats]:
        for row in range(self.count):
            yield self[row]

    def __getitem__(self, row: int) -> Floats:
        made = np.random.default_rng(row).random((32, 32)).astype(np.float32)
        self.held += 1
        self.most = max(self.most, self.held)
        weakref.finalize(made, self.release)
        return made

    def release(self) -> None:
        self.held -= 1


def test_only_a_few_maps_are_held_however_many_pictures_there_are(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmarked(sample: Sample, _: InputSpec, size: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(size, bool)
        mask[:4, :4] = sample.is_anomalous
        return mask

    monkeypatch.setattr(measuring, "load_mask", unmarked)
    maps, members = Counted(300), [samples[0]] * 200 + [samples[1]] * 100
    gc.disable()  # what is let go must be let go at once
    try:
        category_rows("tile", Scored(members, np.arange(300.0), np.empty((300, 0)), maps), SPEC)  # type: ignore[arg-type]
    finally:
        gc.enable()
    assert maps.most <= 3


def test_examples_are_worst_nearest_and_best(samples: list[Sample]) -> None:
    members = [samples[0]] * 3 + [samples[1]] * 3
    judged = Scored(members, np.array([0.1, 0.4, 0.8, 0.2, 0.6, 0.9]), np.empty((6, 0)), [GOOD] * 6)
    assert dividing_line(judged.scores, np.arange(6) > 2, judged.scores > 0.5) == pytest.approx(0.5)
    found = examples(replace(judged, alarms=judged.scores > 0.5), each=2)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "worst": [2, 3],
        "borderline": [1, 4],
        "best": [0, 5],
    } or found["best"].tolist() == [5, 0]


@pytest.mark.parametrize("threshold", [None, 3.0])
def test_a_sheet_is_drawn(samples: list[Sample], tmp_path: Path, threshold: float | None) -> None:
    judged = replace(scored(samples, [0.5, 0.9, 0.1]), pixel_threshold=threshold)
    draw_examples(judged, SPEC, tmp_path / "sheets")
    with Image.open(tmp_path / "sheets" / "tile.png") as sheet:
        assert sheet.width > 300
        assert np.asarray(sheet.convert("RGB")).std() > 5
