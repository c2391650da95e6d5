import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.training.anomalymoe.tiny import model_config
from training.anomalymoe.model.config import RouterConfig
from training.anomalymoe.model.router import Router

COUNTS = (2, 1, 2)


def identity_router(config: RouterConfig) -> Router:
    """A linear router whose logits are its input."""
    router = Router(5, COUNTS, config)
    assert isinstance(router.gate, nn.Linear)
    with torch.no_grad():
        router.gate.weight.copy_(torch.eye(5))
        router.gate.bias.zero_()
    return router


def test_top_k_softmax_over_the_chosen_logits_only():
    router = identity_router(RouterConfig(hidden=None, top_k=2))
    output = router(torch.tensor([[0.0, 3.0, -9.0, 2.0, 1.0]]))
    weight = torch.tensor(1.0).sigmoid()
    assert output.experts.tolist() == [[1, 3]]
    torch.testing.assert_close(output.gates, torch.stack([weight, 1 - weight])[None])
    torch.testing.assert_close(output.dense_gates, torch.tensor([[0, weight, 0, 1 - weight, 0]]))
    assert output.chosen.tolist() == [[0, 1, 0, 1, 0]]


def test_per_level_takes_the_best_of_each_level():
    router = identity_router(RouterConfig(hidden=None, top_k=3, selection="per_level"))
    output = router(torch.tensor([[5.0, 6.0, -9.0, 1.0, 2.0], [1.0, 0.0, 0.0, 3.0, 2.0]]))
    assert output.experts.tolist() == [[1, 2, 4], [0, 2, 3]]
    torch.testing.assert_close(output.gates[0], torch.tensor([6.0, -9.0, 2.0]).softmax(0))


def test_levels_without_experts_are_passed_over():
    router = Router(4, (2, 0, 3), RouterConfig(top_k=2, selection="per_level"))
    experts = router(torch.randn(6, 4)).experts
    assert experts.shape == (6, 2)
    assert (experts[:, 0] < 2).all()
    assert (experts[:, 1] >= 2).all()


@pytest.mark.parametrize(
    ("selection", "expected"), [("top_k", [3 / 5] * 5), ("per_level", [0.5, 0.5, 1.0, 0.5, 0.5])]
)
def test_even_share_sums_to_the_choices_of_a_picture(selection, expected):
    router = Router(4, COUNTS, RouterConfig(top_k=3, selection=selection))
    torch.testing.assert_close(router.even_share, torch.tensor(expected))


def test_gates_are_float32_in_low_precision():
    router = Router(4, COUNTS, RouterConfig(top_k=2)).to(torch.bfloat16)
    assert router(torch.randn(1, 4, dtype=torch.bfloat16)).gates.dtype == torch.float32


def test_top_k_larger_than_the_number_of_experts_is_refused():
    with pytest.raises(ValidationError, match="top_k must not exceed the number of experts 7, got 8"):
        model_config(router=RouterConfig(top_k=8))


def test_per_level_needs_one_choice_for_each_level():
    with pytest.raises(ValidationError, match="top_k must be the number of levels in use 3 per level, got 2"):
        model_config(router=RouterConfig(top_k=2, selection="per_level"))
