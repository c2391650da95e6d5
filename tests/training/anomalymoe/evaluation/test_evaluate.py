"""Evaluation: groups of defects, the rows of the table, and their means."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from rich.console import Console

from export.contract.decision import conformal_threshold
from tests.training.conftest import Fitted
from tests.training.tiny_run import DEFECTS, PRODUCTS, quiet_progress
from training.anomalymoe.checkpoint import Checkpoint, load_checkpoint
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint, rows_table, score_samples
from training.anomalymoe.evaluation.protocol import Protocol
from training.anomalymoe.fit_config import CalibrationConfig
from training.data.dataset import find_samples
from training.data.pictures import DataError
from training.metrics import auroc
from training.reporting.measuring import defect_groups
from training.reporting.rows import AT_THRESHOLD, MEAN, Row
from training.reporting.rows_text import rows_text

HALF = CalibrationConfig(holdout=0.3, components=3, alpha=0.5)
GROUPS = ["all", "structural", *DEFECTS]


@pytest.fixture(scope="module")
def checkpoint(fitted: Fitted) -> Checkpoint:
    return load_checkpoint(fitted.folder)


@pytest.fixture(scope="module")
def rows(checkpoint: Checkpoint, fitted: Fitted) -> list[Row]:
    return evaluate_checkpoint(checkpoint, fitted.data, quiet_progress())


@pytest.fixture
def data(fitted: Fitted, tmp_path: Path) -> Path:
    """A copy of the data that may be changed."""
    return shutil.copytree(fitted.data, tmp_path / "data")


def refusal(checkpoint: Checkpoint, data: Path) -> str:
    with pytest.raises(DataError) as caught:
        evaluate_checkpoint(checkpoint, data, quiet_progress())
    return str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "groups"),
    [
        (["crack"], {"all": {"crack"}, "crack": {"crack"}}),
        (
            ["logical_swap", "crack", "logical_missing"],
            {
                "all": {"crack", "logical_missing", "logical_swap"},
                "logical": {"logical_missing", "logical_swap"},
                "crack": {"crack"},
                "logical_missing": {"logical_missing"},
                "logical_swap": {"logical_swap"},
            },
        ),
        (["cut_in", "cut_out"], {"all": {"cut_in", "cut_out"}, "cut": {"cut_in", "cut_out"}}),
    ],
)
def test_kinds_that_share_a_prefix_form_a_group(kinds: list[str], groups: dict[str, set[str]]) -> None:
    found = defect_groups(kinds)
    assert {name: found[name] for name in groups} == groups
    assert set(found) == set(groups) | set(kinds)


def test_every_category_has_a_row_for_each_group_and_then_come_the_means(rows: list[Row]) -> None:
    assert [(row.category, row.defects) for row in rows] == [
        (name, group) for name in (*PRODUCTS, MEAN) for group in GROUPS
    ]
    counts = [row.pictures for row in rows if row.category == "disc"]
    assert counts == [6, 4, 2, 2, 2]


def test_means_are_those_of_the_categories(rows: list[Row]) -> None:
    for group in GROUPS:
        members = [row for row in rows if row.defects == group]
        mean = members.pop()
        assert mean.metrics.image_auroc == pytest.approx(
            fmean(row.metrics.image_auroc or 0 for row in members)
        )
        assert mean.pictures == sum(row.pictures for row in members)
        assert 0 <= mean.intervals["image_auroc"][0] <= mean.intervals["image_auroc"][1] <= 1
        for level, figure in mean.level_auroc.items():
            assert figure == pytest.approx(fmean(row.level_auroc[level] or 0 for row in members))


def test_a_group_is_measured_against_all_good_pictures(
    rows: list[Row], checkpoint: Checkpoint, fitted: Fitted
) -> None:
    samples = [one for one in find_samples(fitted.data / "disc") if one.split == "test"]
    scored = score_samples(checkpoint, samples, quiet_progress())
    assert np.stack([*scored.maps]).shape == (8, 48, 48)
    assert scored.level_scores.shape == (8, 3)
    chosen = [row for row, one in enumerate(samples) if one.kind in ("good", "structural_spot")]
    labels = [samples[row].is_anomalous for row in chosen]
    found = next(row for row in rows if (row.category, row.defects) == ("disc", "structural_spot"))
    assert found.metrics.image_auroc == auroc(labels, scored.scores[chosen])
    assert found.level_auroc["global"] == auroc(labels, scored.level_scores[chosen, 2])
    figures = asdict(found.metrics) | {one: getattr(found, one) for one in AT_THRESHOLD}
    assert found.intervals.keys() == figures.keys() - {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"}
    for name, (low, high) in found.intervals.items():
        assert low <= figures[name] <= high


def test_groups_that_not_all_categories_have_get_no_mean(checkpoint: Checkpoint, data: Path) -> None:
    shutil.rmtree(data / "disc" / "test" / "logical_missing")
    means = [row for row in evaluate_checkpoint(checkpoint, data, quiet_progress()) if row.category == MEAN]
    assert [row.defects for row in means] == ["all", "structural", "structural_line", "structural_spot"]


def test_one_category_has_no_mean(checkpoint: Checkpoint, fitted: Fitted) -> None:
    found = evaluate_checkpoint(checkpoint, fitted.data / "square", quiet_progress())
    assert {row.category for row in found} == {"square"}


def test_defects_without_masks_leave_the_pixel_figures_open(checkpoint: Checkpoint, data: Path) -> None:
    for product in PRODUCTS:
        shutil.rmtree(data / product / "ground_truth")
    first = evaluate_checkpoint(checkpoint, data, quiet_progress())[0]
    assert first.metrics.image_auroc is not None
    assert first.metrics.pixel_auroc is None


def test_the_figures_are_printed_in_percent_and_written_as_shares(rows: list[Row]) -> None:
    console = Console(width=200, record=True, quiet=False, file=None)
    with console.capture() as capture:
        console.print(rows_table(rows))
    line = next(line for line in capture.get().splitlines() if "disc" in line and " all " in line)
    assert rows[0].metrics.image_auroc is not None
    assert f" {100 * rows[0].metrics.image_auroc:.1f} " in line
    written = json.loads(rows_text(Path("figures.json"), rows, {}))["rows"]
    assert len(written) == len(rows)
    assert written[0]["metrics"]["image_auroc"] == rows[0].metrics.image_auroc
    assert written[0]["level_auroc"].keys() == {"patch", "component", "global"}


def test_a_category_the_checkpoint_does_not_know_is_refused(checkpoint: Checkpoint, data: Path) -> None:
    (data / "disc").rename(data / "ring")
    reason = refusal(checkpoint, data)
    assert "'ring'" in reason
    assert "disc, square" in reason


def test_data_without_test_pictures_is_refused(checkpoint: Checkpoint, data: Path) -> None:
    assert "no test pictures" in refusal(checkpoint, data / "disc" / "train" / "good")


@pytest.mark.parametrize(
    ("kept", "groups"), [("good", ["all"]), ("logical_missing", ["all", "logical_missing"])]
)
def test_a_category_of_one_class_leaves_the_others_their_figures(
    checkpoint: Checkpoint, data: Path, rows: list[Row], kept: str, groups: list[str]
) -> None:
    for folder in (data / "disc" / "test").iterdir():
        if folder.name != kept:
            shutil.rmtree(folder)
    found = evaluate_checkpoint(checkpoint, data, quiet_progress())
    disc = [row for row in found if row.category == "disc"]
    assert [row.defects for row in disc] == groups
    assert {row.metrics.image_auroc for row in disc} == {None}
    assert all("image_auroc" not in row.intervals for row in disc)
    square = [row for row in rows if row.category == "square"]
    assert [row for row in found if row.category == "square"] == square
    mean = next(row for row in found if row.category == MEAN)
    assert mean.metrics.image_auroc == square[0].metrics.image_auroc
    assert mean.level_auroc == square[0].level_auroc
    assert rows_table(found).row_count == len(found)


def test_good_pictures_alone_give_a_false_positive_rate(
    checkpoint: Checkpoint, data: Path, rows: list[Row]
) -> None:
    lenient = replace(checkpoint, config=checkpoint.config.model_copy(update={"calibration": HALF}))
    for folder in (data / "disc" / "test").iterdir():
        if folder.name != "good":
            shutil.rmtree(folder)
    found = evaluate_checkpoint(lenient, data / "disc", quiet_progress())
    samples = [one for one in find_samples(data / "disc") if one.split == "test"]
    assert [(row.defects, row.pictures) for row in found] == [("all", 0)]
    scores = score_samples(lenient, samples, quiet_progress()).scores
    threshold = conformal_threshold(checkpoint.categories["disc"].scores, HALF.alpha)
    assert found[0].false_positive_rate == (scores > threshold).mean()
    assert found[0].metrics.image_auroc is None
    strict = [row for row in rows if row.category != MEAN]
    assert rows[-1].false_positive_rate == fmean(row.false_positive_rate or 0 for row in strict)


def test_figures_that_are_not_calibrated_have_no_false_positive_rate(
    checkpoint: Checkpoint, fitted: Fitted
) -> None:
    protocol = Protocol(normalise="test-minmax")
    found = evaluate_checkpoint(checkpoint, fitted.data / "disc", quiet_progress(), protocol)
    assert {row.false_positive_rate for row in found} == {None}


def test_other_names_of_good_folders_are_good(checkpoint: Checkpoint, data: Path, rows: list[Row]) -> None:
    good = data / "disc" / "test" / "good"
    good.rename(good.with_name("OK"))
    assert evaluate_checkpoint(checkpoint, data, quiet_progress()) == rows
