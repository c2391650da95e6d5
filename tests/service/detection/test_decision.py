from dataclasses import replace

import numpy as np
import pytest

from service.detection.decision import decide
from service.inference.anomalymoe import Outcome
from service.schemas.findings import Selected
from tests.tiny_bundle import tiny_category

CATEGORY = replace(
    tiny_category("brick"),
    scores=np.arange(1, 100, dtype=np.float32),
    peaks=2 * np.arange(1, 100, dtype=np.float32),
    distance_score=90.0,
)


def outcome(raw_score: float, *, distance: float = 0, is_named: bool = False) -> Outcome:
    return Outcome(
        category=CATEGORY,
        is_named=is_named,
        distance=distance,
        level_maps=np.zeros((3, 4, 4), np.float32),
        map=np.zeros((28, 28), np.float32),
        raw_score=raw_score,
        level_scores=np.array([0, 90, 30], np.float32),
        experts=(Selected("patch", 1, 0.5), Selected("global", 0, 0.3), Selected("patch", 0, 0.2)),
        timings_ms={},
    )


def test_score_above_the_threshold_is_anomalous():
    decision = decide(outcome(270.0), alpha=0.1)
    assert decision.threshold == 90
    assert decision.score == pytest.approx(0.75)
    assert decision.p_value == pytest.approx(0.01)
    assert (decision.is_anomalous, decision.reason) == (True, "score")


def test_score_at_the_threshold_is_normal():
    decision = decide(outcome(90.0), alpha=0.1)
    assert decision.score == 0.5
    assert (decision.is_anomalous, decision.reason) == (False, None)
    assert decision.category == "brick"


def test_unknown_product_is_anomalous_and_has_no_score():
    decision = decide(outcome(0.0, distance=2), alpha=0.1)
    assert (decision.category, decision.score, decision.threshold, decision.p_value) == (None,) * 4
    assert (decision.category_source, decision.is_anomalous) == ("unknown", True)
    assert decision.reason == "unknown_product"
    assert decision.raw_score == 90 * 2**8
    assert decision.pixel_threshold == 180


def test_a_picture_far_from_the_named_product_is_anomalous_however_little_its_map_shows():
    decision = decide(outcome(0.0, distance=2, is_named=True), alpha=0.1)
    assert (decision.category, decision.category_source) == ("brick", "request")
    assert (decision.is_anomalous, decision.reason) == (True, "not_this_product")
    assert decision.score is not None
    assert decision.score > 0.5
    assert decision.p_value == pytest.approx(0.01)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
def test_beyond_the_distance_limit_begins_what_is_anomalous(alpha: float):
    limit = decide(outcome(0.0), alpha).distance_limit
    assert not decide(outcome(0.0, distance=limit * 0.999), alpha).is_anomalous
    assert decide(outcome(0.0, distance=limit * 1.001), alpha).is_anomalous


def test_distances_of_normal_pictures_hardly_count_beside_their_scores():
    assert decide(outcome(10.0, distance=0.5), 0.1).raw_score == 10
    assert decide(outcome(10.0, distance=0.9), 0.1).raw_score == pytest.approx(90 * 0.9**8)


def test_pixel_threshold_comes_from_the_peaks():
    assert decide(outcome(1.0), alpha=0.1).pixel_threshold == 180


@pytest.mark.parametrize(("alpha", "promised"), [(0.1, 0.1), (0.001, 0.01)])
def test_alpha_is_what_the_calibration_can_promise(alpha: float, promised: float):
    assert decide(outcome(1.0), alpha).alpha == pytest.approx(promised)


def test_levels_have_their_own_scores_and_weights():
    levels = decide(outcome(1.0), alpha=0.1).levels
    assert {level: share.score for level, share in levels.items()} == pytest.approx(
        {"patch": 0, "component": 0.5, "global": 0.25}
    )
    assert {level: share.weight for level, share in levels.items()} == pytest.approx(
        {"patch": 0.7, "component": 0, "global": 0.3}
    )
