"""Expert redundancy: linear CKA against its definition, and what it must and must not see."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress, tiny_checkpoint
from training.anomalymoe.analysis import redundancy
from training.anomalymoe.analysis.looks import known_test_samples
from training.anomalymoe.analysis.redundancy import (
    expert_redundancy,
    linear_cka,
    mean_redundancy,
    redundancy_heat_maps,
    redundancy_json,
)

Floats = npt.NDArray[np.float64]


def outputs(*experts: Floats) -> Floats:
    """Outputs (n, E, D) of experts (n, D)."""
    return np.stack(experts, axis=1)


def hsic_by_definition(x: Floats, y: Floats) -> float:
    """Mean of k_ij (l_ij + l_qr - 2 l_iq) over all four different pictures (Song et al. 2012, Eq. 4)."""
    k, m = x @ x.T, y @ y.T
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return float(np.mean(terms))


def test_cka_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3)) + 2
    y = x @ rng.normal(size=(3, 3)) + rng.normal(size=(6, 3))
    expected = hsic_by_definition(x, y) / np.sqrt(hsic_by_definition(x, x) * hsic_by_definition(y, y))
    found = linear_cka([outputs(x, y)])
    assert found[0, 1] == pytest.approx(expected)
    assert found[1, 0] == pytest.approx(expected)
    assert found.diagonal() == pytest.approx([1, 1])


def test_a_turned_scaled_and_moved_output_says_the_same() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 5))
    turn = np.linalg.qr(rng.normal(size=(5, 5))).Q
    assert linear_cka([outputs(x, 7 * x @ turn + 100)])[0, 1] == pytest.approx(1)


def test_noise_is_no_likeness_even_with_fewer_pictures_than_channels() -> None:
    rng = np.random.default_rng(2)
    found = [linear_cka([rng.normal(size=(20, 2, 200))])[0, 1] for _ in range(30)]
    assert abs(np.mean(found)) < 0.02


def test_telling_categories_apart_is_no_redundancy() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=(60, 2, 8)) + 50 * category for category in (0, 1)]
    assert linear_cka([np.concatenate(groups)])[0, 1] > 0.99
    assert abs(linear_cka(groups)[0, 1]) < 0.1


def test_groups_too_small_for_the_estimator_are_left_out() -> None:
    rng = np.random.default_rng(4)
    large, small = rng.normal(size=(9, 2, 4)), rng.normal(size=(3, 2, 4))
    assert np.array_equal(linear_cka([large, small]), linear_cka([large]))
    assert np.isnan(linear_cka([small])).all()


def test_an_output_that_never_varies_is_like_nothing() -> None:
    rng = np.random.default_rng(5)
    found = linear_cka([outputs(rng.normal(size=(8, 3)), np.full((8, 3), 0.1))])
    assert found[0, 0] == pytest.approx(1)
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 1])


def test_equal_experts_are_wholly_redundant_and_others_less(fitted: Fitted) -> None:
    checkpoint = tiny_checkpoint()
    experts = checkpoint.detector.experts
    experts[1].load_state_dict(experts[0].state_dict())
    samples = known_test_samples(checkpoint, fitted.data)
    found = expert_redundancy(checkpoint, samples, quiet_progress())
    assert {level: matrix.shape for level, matrix in found.items()} == {
        "patch": (2, 2),
        "component": (2, 2),
        "global": (1, 1),
    }
    assert found["patch"][0, 1] == pytest.approx(1)
    assert found["component"][0, 1] < 0.99


def test_many_pictures_are_thinned_evenly(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint()
    samples = known_test_samples(checkpoint, fitted.data)
    expected = expert_redundancy(checkpoint, samples[::2], quiet_progress())
    monkeypatch.setattr(redundancy, "MOST_PICTURES", len(samples) // 2)
    found = expert_redundancy(checkpoint, samples, quiet_progress())
    assert np.array_equal(found["patch"], expected["patch"])


@pytest.mark.parametrize(
    ("matrix", "mean"),
    [
        ([[1.0, 0.2, 0.4], [0.2, 1.0, 0.9], [0.4, 0.9, 1.0]], 0.5),
        ([[1.0, 0.2, np.nan], [0.2, 1.0, np.nan], [np.nan, np.nan, np.nan]], 0.2),
        ([[1.0]], None),
    ],
)
def test_the_mean_is_over_pairs_of_different_experts(matrix: list[list[float]], mean: float | None) -> None:
    assert mean_redundancy(np.array(matrix)) == (None if mean is None else pytest.approx(mean))


def test_json_and_heat_maps_hold_the_matrices() -> None:
    matrix = np.array([[1.0, np.nan], [np.nan, np.nan]])
    assert redundancy_json({"patch": matrix})["patch"] == {"cka": [[1.0, None], [None, None]], "mean": None}
    (heat_map,) = redundancy_heat_maps({"patch": matrix}, ["patch 0", "patch 1", "global 0"])
    assert list(heat_map.rows) == list(heat_map.columns) == ["patch 0", "patch 1"]
    assert heat_map.values is matrix
