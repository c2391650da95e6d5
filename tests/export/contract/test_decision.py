from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.contract.appearance import STATISTICS
from export.contract.decision import (
    calibrate,
    conformal_threshold,
    display_score,
    effective_alpha,
    nearest_category,
    p_value,
)
from tests.tiny_bundle import tiny_category

LOOK = np.zeros(STATISTICS, np.float32)


def test_calibrated_errors_start_at_the_offset():
    error = np.array([[0.1, 0.2, 0.6]], np.float32)
    np.testing.assert_allclose(calibrate(error, 0.2, 0.4), [[0.0, 0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.5, 5), (0.1, 9), (0.2, 8), (0.01, 9)])
def test_threshold_is_the_kth_smallest_of_nine(alpha: float, expected: float):
    assert conformal_threshold(np.arange(1.0, 10.0), alpha) == expected


def test_rounding_noise_does_not_move_the_threshold():
    # (9 + 1) * (1 - 0.7) is 3.0000000000000004 in floating point.
    assert conformal_threshold(np.arange(1.0, 10.0), 0.7) == 3


def test_false_positive_rate_is_kept():
    generator = np.random.default_rng(0)
    draws = np.sort(generator.normal(size=(4000, 99)), axis=1)
    fresh = generator.normal(size=4000)
    alarms = [raw > conformal_threshold(scores, 0.05) for scores, raw in zip(draws, fresh, strict=True)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.012)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=60, unique=True),
    st.integers(0, 1000),
    st.floats(0.001, 0.999),
)
def test_threshold_and_p_value_agree(values: list[int], raw: int, alpha: float):
    scores = np.sort(np.array(values, np.float64))
    is_above = raw > conformal_threshold(scores, alpha)
    assert is_above == (p_value(scores, raw) <= effective_alpha(len(scores), alpha) + 1e-9)


def test_few_pictures_promise_less():
    assert effective_alpha(9, 0.01) == pytest.approx(0.1)
    assert effective_alpha(999, 0.01) == 0.01


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_outside_its_range_is_named(alpha: float):
    with pytest.raises(ValueError, match=f"alpha.*{alpha}"):
        conformal_threshold(np.ones(3), alpha)


def test_no_calibration_score_is_an_error():
    with pytest.raises(ValueError, match="scores"):
        conformal_threshold(np.empty(0), 0.1)


def test_p_value_counts_ties_as_higher():
    scores = np.array([1.0, 2.0, 2.0, 3.0])
    assert p_value(scores, 2.0) == 4 / 5
    assert p_value(scores, 3.5) == 1 / 5


def test_display_score_of_numbers_and_arrays():
    assert display_score(0.3, 0.3) == 0.5
    assert display_score(0.0, 0.0) == 0.0
    np.testing.assert_allclose(display_score(np.array([0.0, 1.0, 3.0], np.float32), 1.0), [0, 0.5, 0.75])
    np.testing.assert_array_equal(display_score(np.array([0.0, 2.0], np.float32), 0.0), [0, 1])


def test_nearest_category_ignores_the_length_of_the_token():
    brick, slate = tiny_category("brick"), tiny_category("slate")
    category, distance = nearest_category(7 * slate.prototype, LOOK, [brick, slate])
    assert category is slate
    assert distance == pytest.approx(0, abs=1e-5)
    _, opposite = nearest_category(-slate.prototype, LOOK, [slate])
    assert opposite == pytest.approx(2 / slate.radius)


def test_each_category_measures_distance_by_its_own_radius():
    narrow, wide = replace(tiny_category("slate"), radius=0.01), tiny_category("brick")
    between = (narrow.prototype + wide.prototype / 2).astype(np.float32)
    assert narrow.prototype @ between > wide.prototype @ between
    assert nearest_category(between, LOOK, [narrow, wide])[0] is wide


def test_a_picture_that_looks_otherwise_is_far_whatever_its_token_says():
    category = replace(tiny_category("brick"), appearance_whitening=np.eye(STATISTICS, dtype=np.float32))
    _, distance = nearest_category(category.prototype, LOOK + 2, [category])
    assert distance == pytest.approx(2 * STATISTICS**0.5)


def test_nearest_of_no_categories_is_an_error():
    with pytest.raises(ValueError, match="categories"):
        nearest_category(np.ones(8, np.float32), LOOK, [])
