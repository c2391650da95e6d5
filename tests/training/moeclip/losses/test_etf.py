"""The ETF loss by hand, at its optimum, and against reference figures."""

import pytest
import torch

from tests.training.moeclip.figures import figure, needs_figures, probe_outputs
from training.moeclip.losses.etf import etf_loss, ideal_gram


def test_ideal_gram_of_three_experts() -> None:
    expected = torch.tensor([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]])
    torch.testing.assert_close(ideal_gram(3, torch.zeros(1)), expected)


def test_equal_outputs_by_hand() -> None:
    # Two equal experts: the Gram matrix is all ones, the ideal one has -1 off the diagonal.
    outputs = torch.tensor([[[3.0, 4.0], [6.0, 8.0]]])
    assert etf_loss(outputs).item() == pytest.approx((0 + 4 + 4 + 0) / 4)


def test_right_angles_by_hand() -> None:
    outputs = torch.diag(torch.tensor([1.0, 2.0, 3.0]))[None]
    assert etf_loss(outputs).item() == pytest.approx(6 * 0.25 / 9)


def test_lossless_at_equal_widest_angles() -> None:
    angles = 2 * torch.pi * torch.arange(3) / 3
    frame = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert etf_loss(frame.expand(2, 5, 3, 2)).item() == pytest.approx(0, abs=1e-12)


def test_mean_over_tokens_and_blind_to_lengths() -> None:
    outputs = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    each = torch.stack([etf_loss(one[None]) for one in outputs])
    torch.testing.assert_close(etf_loss(outputs), each.mean())
    torch.testing.assert_close(etf_loss(7 * outputs), etf_loss(outputs))


def test_zero_outputs_have_a_finite_gradient() -> None:
    outputs = torch.zeros(2, 3, 4, requires_grad=True)
    etf_loss(outputs).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


@needs_figures
@pytest.mark.parametrize("layer", range(4))
def test_reference_figures(layer: int) -> None:
    assert etf_loss(probe_outputs(layer)).item() == pytest.approx(figure("etf_loss")[layer], rel=1e-5)
