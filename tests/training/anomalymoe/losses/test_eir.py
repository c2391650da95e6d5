import math

import pytest
import torch
from torch import Tensor

from training.anomalymoe.losses.eir import ClubEstimator, Gaussian, InformationRepulsion, direction
from training.anomalymoe.model.config import EirConfig


class Identity(ClubEstimator):
    """q(z_k | z_j) = N(z_j, e^0.5), whatever was learnt."""

    def forward(self, given_BD: Tensor) -> Gaussian:
        return Gaussian(given_BD, torch.full_like(given_BD, 0.5))


GIVEN = torch.tensor([[0.0, 1.0], [2.0, -1.0], [1.0, 0.5]])
TOLD = torch.tensor([[0.5, 1.0], [1.0, 0.0], [0.0, 2.0]])


def test_upper_bound_equals_the_sum_over_all_pairs():
    def log_q(told: Tensor, given: Tensor) -> float:
        return float((-(told - given).square() / math.exp(0.5) - 0.5).sum() / 2)

    matched = sum(log_q(TOLD[i], GIVEN[i]) for i in range(3)) / 3
    unmatched = sum(log_q(TOLD[j], GIVEN[i]) for i in range(3) for j in range(3)) / 9
    estimator = Identity(2, 4)
    assert float(estimator.upper_bound(GIVEN, TOLD)) == pytest.approx(matched - unmatched, rel=1e-5)
    assert float(estimator.log_likelihood(GIVEN, TOLD).mean()) == pytest.approx(matched, rel=1e-5)


def test_bound_is_positive_for_dependent_and_near_zero_for_independent_samples_after_training():
    torch.manual_seed(0)
    given, noise = torch.randn(2, 512, 3)
    for told, is_dependent in ((given + 0.3 * noise, True), (noise, False)):
        estimator = ClubEstimator(3, 16)
        optimiser = torch.optim.Adam(estimator.parameters(), lr=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            (-estimator.log_likelihood(given, told).mean()).backward()
            optimiser.step()
        bound = float(estimator.upper_bound(given, told))
        assert bound > 1.0 if is_dependent else abs(bound) < 0.5


def test_one_picture_tells_nothing():
    assert float(ClubEstimator(2, 4).upper_bound(GIVEN[:1], TOLD[:1])) == 0.0


def test_bound_moves_the_samples_and_likelihood_the_estimator():
    repulsion = InformationRepulsion(4, (2, 0, 0), EirConfig(hidden=8))
    pooled = {column: torch.randn(5, 4, requires_grad=True) for column in range(2)}
    losses = repulsion(repulsion.choose_pairs(), pooled)
    losses.repulsion.backward()
    assert all(z.grad is not None and z.grad.any() for z in pooled.values())
    assert all(parameter.grad is None for parameter in repulsion.parameters())
    before = [z.grad.clone() for z in pooled.values() if z.grad is not None]
    losses.estimation.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in repulsion.parameters())
    assert all(
        torch.equal(z.grad, old) for z, old in zip(pooled.values(), before, strict=True) if z.grad is not None
    )


def test_pairs_stay_inside_a_level():
    repulsion = InformationRepulsion(4, (3, 1, 2), EirConfig())
    assert repulsion.pairs == ((0, 1), (0, 2), (1, 2), (4, 5))
    assert repulsion.choose_pairs() == repulsion.pairs


def test_sampled_pairs_estimate_the_sum_over_all():
    torch.manual_seed(0)
    every = InformationRepulsion(4, (2, 2, 0), EirConfig(hidden=8))
    one = InformationRepulsion(4, (2, 2, 0), EirConfig(hidden=8, pairs="sampled"))
    one.load_state_dict(every.state_dict())
    pooled = {column: torch.randn(5, 4) for column in range(4)}
    expected = every(every.pairs, pooled).repulsion
    estimates = torch.stack([one((pair,), pooled).repulsion for pair in every.pairs])
    torch.testing.assert_close(estimates.mean(), expected)
    assert {one.choose_pairs() for _ in range(30)} == {((0, 1),), ((2, 3),)}


def test_zero_weight_asks_for_no_pairs():
    assert InformationRepulsion(4, (3, 3, 3), EirConfig(weight=0.0)).choose_pairs() == ()


def test_growing_outputs_do_not_change_the_bound():
    pooled = torch.randn(3, 8)
    torch.testing.assert_close(direction(pooled), direction(100 * pooled))
    torch.testing.assert_close(direction(pooled).square().mean(1), torch.ones(3))


def test_the_estimator_learns_and_equal_experts_move_apart():
    """Two experts that begin as one: the estimator sees it, and the bound pulls them apart."""
    torch.manual_seed(0)
    given = torch.randn(64, 6)
    experts = [torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)]
    experts[1].load_state_dict(experts[0].state_dict())
    repulsion = InformationRepulsion(4, (2, 0, 0), EirConfig(hidden=16))
    first = torch.optim.Adam([one for expert in experts for one in expert.parameters()], lr=0.01)
    second = torch.optim.Adam(repulsion.parameters(), lr=0.01)

    def step(moves_experts: bool) -> tuple[float, float, float]:
        told = [expert(given) for expert in experts]
        losses = repulsion(repulsion.pairs, dict(enumerate(told)))
        first.zero_grad()
        second.zero_grad()
        (losses.repulsion + losses.estimation).backward()
        second.step()
        if moves_experts:
            first.step()
        likeness = torch.nn.functional.cosine_similarity(*told).abs().mean()
        return losses.repulsion.item(), losses.estimation.item(), likeness.item()

    learning = [step(moves_experts=False) for _ in range(60)]
    assert learning[-1][1] < learning[0][1] - 1
    assert learning[-1][0] > 1
    moving = [step(moves_experts=True) for _ in range(60)]
    assert moving[-1][0] < learning[-1][0] / 2
    assert moving[0][2] > 0.99
    assert moving[-1][2] < 0.7
