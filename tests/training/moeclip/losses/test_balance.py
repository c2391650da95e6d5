"""The balance loss by hand, its gradient, and against reference figures."""

import pytest
import torch

from tests.training.moeclip.figures import figure, needs_figures, probe_routing
from training.moeclip.losses.balance import balance_loss


def test_by_hand() -> None:
    # Loads 3 and 1: mean 2, sample variance 2.
    routing = torch.tensor([[[0.75, 0.25], [0.75, 0.25]], [[0.9, 0.1], [0.6, 0.4]]])
    assert balance_loss(routing).item() == pytest.approx(2 / 4, rel=1e-5)


def test_even_load_is_lossless_though_every_token_decides() -> None:
    assert balance_loss(torch.eye(4)).item() == 0


def test_single_expert_is_balanced() -> None:
    assert balance_loss(torch.ones(5, 1)).item() == 0


def test_descent_evens_the_load() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    balance_loss(logits.softmax(-1)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0
    assert logits.grad[0, 2] < 0


@needs_figures
@pytest.mark.parametrize("layer", range(4))
def test_reference_figures(layer: int) -> None:
    found = balance_loss(probe_routing(layer)).item()
    assert found == pytest.approx(figure("balance_cv2")[layer], rel=1e-5)
