from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.anomalymoe.tiny import centres, pictures, record_outputs, scene_of, tiny_model
from training.anomalymoe.losses.objective import Losses, Objective, Outcome
from training.anomalymoe.model.config import EirConfig, EsbConfig

BATCH = 6


def objective(**changes: Any) -> Objective:
    torch.manual_seed(0)
    # A tight capacity, so that the load term is not zero by luck.
    settings = {"eir": EirConfig(hidden=8), "esb": EsbConfig(capacity_factor=0.5)} | changes
    return Objective(tiny_model(**settings)).train()


def outcome_of(built: Objective) -> Outcome:
    return built(pictures(BATCH), *centres(BATCH), built.repulsion.choose_pairs())


def losses_of(built: Objective) -> Losses:
    return outcome_of(built).losses


def moved(built: Objective, term: Tensor) -> set[str]:
    """The parts of the objective that a loss term sends a gradient to."""
    built.zero_grad()
    term.backward(retain_graph=True)
    return {
        ".".join(name.split(".")[:3])
        for name, parameter in built.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def test_total_is_the_weighted_sum():
    built = objective(
        esb=EsbConfig(weight=0.5, importance=2, load=3, z=4), eir=EirConfig(weight=0.2, hidden=8)
    )
    losses = losses_of(built)
    balance = 2 * losses.importance + 3 * losses.load + 4 * losses.z
    torch.testing.assert_close(losses.total, losses.reconstruction + 0.5 * balance + 0.2 * losses.repulsion)


@pytest.mark.parametrize("term", ["importance", "load", "z"])
def test_balancing_moves_the_router_and_nothing_else(term):
    built = objective()
    value = getattr(losses_of(built), term)
    assert value > 0
    assert moved(built, value) == {"model.router.gate"}


def test_reconstruction_moves_the_router_and_the_chosen_experts():
    built = objective(eir=EirConfig(weight=0.0))
    chosen = built.model.router(built.model.encode(pictures(BATCH)).cls).experts.unique().tolist()
    expected = {"model.router.gate", *(f"model.experts.{column}" for column in chosen)}
    assert moved(built, losses_of(built).reconstruction) == expected


def test_only_the_chosen_experts_run_on_the_pictures_that_chose_them():
    built = objective(eir=EirConfig(weight=0.0))
    seen: dict[int, list[int]] = {column: [] for column in range(7)}
    for column, expert in enumerate(built.model.experts):

        def count(_module: object, inputs: tuple[Tensor, ...], column: int = column) -> None:
            seen[column].append(len(inputs[0]))

        expert.register_forward_pre_hook(count)
    pictures_of = (BATCH * outcome_of(built).usage.share).round().int().tolist()
    assert list(seen.values()) == [[count] if count else [] for count in pictures_of]
    assert [] in seen.values()


def test_repulsion_moves_every_expert_but_no_estimator():
    built = objective()
    losses = losses_of(built)
    assert losses.repulsion != 0
    assert moved(built, losses.repulsion) == {f"model.experts.{column}" for column in range(7)}


def test_estimation_moves_every_estimator_and_nothing_else():
    built = objective()
    expected = {f"repulsion.estimators.{j}-{k}" for j, k in built.repulsion.pairs}
    assert moved(built, losses_of(built).estimation) == expected


def test_a_sampled_pair_moves_two_experts():
    built = objective(eir=EirConfig(hidden=8, pairs="sampled"))
    experts = moved(built, losses_of(built).repulsion)
    assert len(experts) == 2


def test_reconstruction_weights_each_picture_by_its_gate():
    built = objective(eir=EirConfig(weight=0.0)).eval()
    model = built.model
    with torch.no_grad():
        scene = scene_of(model, pictures(BATCH))
        gates = model.router(model.encode(pictures(BATCH)).cls).dense_gates
        each = torch.stack([model.run_expert(column, scene).loss for column in range(7)], 1)
        torch.testing.assert_close(losses_of(built).reconstruction, (gates * each).sum(1).mean())
    assert gates.std() > 0


def test_experts_run_whole_for_repulsion_cost_the_same_reconstruction():
    alone, paired = objective(eir=EirConfig(weight=0.0)).eval(), objective().eval()
    with torch.no_grad():
        torch.testing.assert_close(losses_of(alone).reconstruction, losses_of(paired).reconstruction)


def test_a_training_step_lowers_the_loss():
    built = objective(eir=EirConfig(hidden=8, pairs="sampled"))
    model_optimiser = torch.optim.Adam([p for p in built.model.parameters() if p.requires_grad], lr=3e-3)
    estimator_optimiser = torch.optim.Adam(built.repulsion.parameters(), lr=3e-3)
    values: list[float] = []
    for _ in range(15):
        losses = losses_of(built)
        model_optimiser.zero_grad()
        estimator_optimiser.zero_grad()
        losses.total.backward()
        losses.estimation.backward()
        model_optimiser.step()
        estimator_optimiser.step()
        values.append(losses.reconstruction.item())
    assert values[-1] < 0.9 * values[0]


def test_load_spreads_a_collapsed_router():
    """Its slope comes from probabilities, its value from counts: those must fall."""
    built = objective(esb=EsbConfig(weight=1.0, importance=0.0, z=0.0))
    gate = built.model.router.gate
    assert isinstance(gate, torch.nn.Sequential)
    with torch.no_grad():
        gate.get_parameter("2.bias")[:3] += 3.0
    optimiser = torch.optim.Adam(gate.parameters(), lr=0.05)
    shares: list[Tensor] = []
    for _ in range(30):
        outcome = outcome_of(built)
        optimiser.zero_grad()
        outcome.losses.load.backward()
        optimiser.step()
        shares.append(outcome.usage.share)
    assert shares[0].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert (shares[-1] > 0).sum() > 3


def test_usage_counts_the_experts_run_for_the_repulsion_alone():
    built = objective()
    usage = outcome_of(built).usage
    torch.testing.assert_close(usage.share.sum(), torch.tensor(3.0))
    torch.testing.assert_close(usage.gate.sum(), torch.tensor(1.0))
    assert (usage.gate[usage.share == 0] == 0).all()
    # All pairs need all seven experts on every picture, of which it chose three.
    assert (usage.chosen_passes, usage.extra_passes) == (3, 4)
    without = outcome_of(objective(eir=EirConfig(weight=0.0))).usage
    assert (without.chosen_passes, without.extra_passes) == (3, 0)


def test_a_sampled_pair_costs_what_did_not_choose_it():
    built = objective(eir=EirConfig(hidden=8, pairs="sampled"))
    usage = built(pictures(BATCH), *centres(BATCH), [(0, 2)]).usage
    torch.testing.assert_close(usage.extra_passes, 2 - usage.share[0] - usage.share[2])


def test_bfloat16_is_for_encoder_and_experts_the_rest_stays_float32():
    torch.manual_seed(0)
    built = Objective(tiny_model(eir=EirConfig(hidden=8)), "bfloat16").eval()
    exact = objective(esb=EsbConfig()).eval()
    inside = record_outputs([built.model.get_submodule("experts.0.bottleneck.fc1")])
    routed = record_outputs([built.model.get_submodule("router.gate.2")])
    losses, expected = losses_of(built), losses_of(exact)
    assert {one.dtype for one in inside} == {torch.bfloat16}
    assert {one.dtype for one in (*routed, *losses)} == {torch.float32}
    assert losses.reconstruction != expected.reconstruction
    torch.testing.assert_close(losses.reconstruction, expected.reconstruction, rtol=0.05, atol=0)
    (losses.total + losses.estimation).backward()
    gradients = [one.grad for one in built.parameters() if one.grad is not None]
    assert len(gradients) > 50
    assert {one.dtype for one in gradients} == {torch.float32}
