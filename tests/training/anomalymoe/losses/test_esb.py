import torch

from training.anomalymoe.losses.esb import importance_loss, load_loss, selection_balance, z_loss
from training.anomalymoe.model.config import EsbConfig
from training.anomalymoe.model.router import RouterOutput


def test_importance_is_one_when_even_and_the_number_of_experts_when_collapsed():
    assert importance_loss(torch.full((3, 4), 0.25)) == 1.0
    assert importance_loss(torch.tensor([[1.0, 0, 0, 0]] * 3)) == 4.0


def test_load_is_the_squared_excess_over_capacity():
    chosen = torch.tensor([[1.0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    load = load_loss(chosen, torch.full((4, 3), 1 / 3), torch.tensor([1.5, 1.5, 3.0]))
    torch.testing.assert_close(load, torch.tensor(2.5**2 + 0.5**2))


def test_load_pulls_the_logits_of_the_overloaded_expert_down():
    logits = torch.tensor([[2.0, 0, 0], [2.0, 0, 0]], requires_grad=True)
    chosen = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    load_loss(chosen, logits.softmax(1), torch.full((3,), 0.8)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_z_sums_over_experts_and_averages_over_the_batch():
    assert z_loss(torch.tensor([[1.0, 2.0], [0.0, 3.0]])) == 7.0


def test_total_is_the_weighted_sum_with_capacity_from_the_even_share():
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0]] * 4)
    output = RouterOutput(logits, torch.tensor([[0, 1]] * 4), torch.tensor([[0.7, 0.3]] * 4))
    losses = selection_balance(
        output, torch.full((4,), 0.5), EsbConfig(importance=2, load=3, z=5, capacity_factor=1.5)
    )
    torch.testing.assert_close(losses.load, torch.tensor(2.0))
    torch.testing.assert_close(losses.z, torch.tensor(5.0))
    torch.testing.assert_close(losses.importance, 4 * logits[0].softmax(0).square().sum())
    torch.testing.assert_close(losses.total, 2 * losses.importance + 3 * losses.load + 5 * losses.z)


def test_experts_not_chosen_receive_gradient():
    logits = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    output = RouterOutput(logits, torch.tensor([[0]]), torch.ones(1, 1))
    selection_balance(output, torch.full((3,), 1 / 3), EsbConfig(z=0.0)).total.backward()
    assert logits.grad is not None
    assert (logits.grad != 0).all()
