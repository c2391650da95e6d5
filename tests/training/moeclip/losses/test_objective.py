"""Focal, dice and image loss by hand, the weighted total, and maps against reference figures."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.moeclip.figures import figure, given, needs_figures, settings
from training.moeclip.losses.objective import (
    Evidence,
    LossWeights,
    Supervision,
    dice_loss,
    focal_loss,
    image_loss,
    segmentation_losses,
    total_loss,
)


def two_channels(anomalous: Tensor) -> Tensor:
    return torch.stack([1 - anomalous, anomalous], dim=1)


def evidence(seed: int = 0) -> Evidence:
    """Two maps, one layer of three experts."""
    draw = torch.Generator().manual_seed(seed)
    return Evidence(
        maps=[torch.randn(2, 2, 4, 4, generator=draw).softmax(1) for _ in range(2)],
        image_logits=torch.randn(2, 2, generator=draw),
        experts=[torch.randn(2, 5, 3, 6, generator=draw)],
        routing=[torch.randn(2, 5, 3, generator=draw).softmax(-1)],
    )


TRUTH = Supervision(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]).repeat(1, 4, 2), torch.tensor([1.0, 0.0]))


def test_focal_loss_by_hand() -> None:
    found = focal_loss(two_channels(torch.tensor([[[0.8, 0.4]]])), torch.tensor([[[1.0, 0.0]]])).item()
    expected = (0.2**2 * -math.log(0.8) + 0.4**2 * -math.log(0.6)) / 2
    assert found == pytest.approx(expected, rel=1e-3)


def test_focal_loss_of_sure_mistakes_is_finite() -> None:
    probability = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    loss = focal_loss(two_channels(probability), torch.tensor([[[1.0, 0.0]]]))
    loss.backward()
    assert 5 < loss.item() < 20
    assert probability.grad is not None
    assert probability.grad.isfinite().all()


def test_dice_loss_by_hand() -> None:
    probability, mask = torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[1.0, 0.0]]])
    assert dice_loss(probability, mask).item() == pytest.approx(1 - (2 * 0.5 + 1) / (0.75 + 1 + 1))


def test_dice_loss_is_a_mean_over_pictures() -> None:
    probability = torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])
    mask = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    each = [dice_loss(one[None], own[None]) for one, own in zip(probability, mask, strict=True)]
    assert each[0].item() == 0
    torch.testing.assert_close(dice_loss(probability, mask), torch.stack(each).mean())


def test_segmentation_counts_both_channels() -> None:
    found, mask = (
        torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)),
        torch.eye(3).repeat(2, 1, 1),
    )
    _, dice = segmentation_losses(two_channels(found), mask)
    torch.testing.assert_close(dice, dice_loss(found, mask) + dice_loss(1 - found, 1 - mask))


def test_image_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert image_loss(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected)


def test_image_loss_of_a_sure_mistake_is_finite() -> None:
    assert image_loss(torch.tensor([[100.0, -100.0]]), torch.tensor([1.0])).item() == pytest.approx(200)


def test_total_is_the_weighted_sum() -> None:
    losses = total_loss(evidence(), TRUTH, LossWeights(etf=0.5, balance=3.0))
    expected = losses.focal + losses.dice + losses.image + 0.5 * losses.etf + 3 * losses.balance
    torch.testing.assert_close(losses.total, expected)
    assert all(term.item() > 0 for term in losses)


def test_sums_over_maps_and_layers() -> None:
    one = evidence()
    twice = one._replace(maps=[*one.maps] * 2, experts=[*one.experts] * 2, routing=[*one.routing] * 2)
    single, double = (total_loss(each, TRUTH, LossWeights(1, 1)) for each in (one, twice))
    for term in ("focal", "dice", "etf", "balance"):
        torch.testing.assert_close(getattr(double, term), 2 * getattr(single, term))
    torch.testing.assert_close(double.image, single.image)


def test_without_experts_their_terms_are_zero() -> None:
    losses = total_loss(evidence()._replace(experts=[], routing=[]), TRUTH, LossWeights(1, 1))
    assert losses.etf.item() == losses.balance.item() == 0


@needs_figures
def test_reference_figures() -> None:
    side, grid = settings()["img"], settings()["img"] // 14
    mask = (given("mask", 2, side, side) > 1.0).float()
    logits = torch.from_numpy(figure("patch_logits")).permute(1, 0, 3, 2).unflatten(-1, (grid, grid))
    maps = [
        F.interpolate(one, (side, side), mode="bilinear", align_corners=True).softmax(1) for one in logits
    ]
    losses = torch.stack([torch.stack(segmentation_losses(one, mask)).sum() for one in maps])
    np.testing.assert_allclose(losses.numpy(), figure("seg_loss"), rtol=1e-5)
