"""The losses of MoECLIP, Eqs. 15 and 16 and supplement B.6 of the paper.

Legend: B batch, M maps (layers times scales), H W pixels; the channels of a map are normal and anomalous.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.moeclip.losses.balance import balance_loss
from training.moeclip.losses.etf import etf_loss

GAMMA = 2.0
DICE_SMOOTHING = 1.0
# Keeps targets and probabilities off 0 and 1, so that a map that is sure and wrong has a finite loss.
FOCAL_SMOOTHING = 1e-5


class Losses(NamedTuple):
    """The terms before weighting, and their total (Eq. 16); focal and dice are sums over the maps."""

    focal: Tensor
    dice: Tensor
    image: Tensor
    etf: Tensor
    balance: Tensor
    total: Tensor


class LossWeights(NamedTuple):
    """Weights of the terms of Eq. 16 that have one; 0 leaves a term out of the training."""

    etf: float
    balance: float


def focal_loss(map_B2HW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean of -(1 - p)^2 log p over the pixels, p the probability of the true state (B.3).

    map_B2HW: probabilities of normal and anomalous. mask_BHW: 1 where anomalous, else 0.
    """
    true_B2HW = torch.stack([1 - mask_BHW, mask_BHW], dim=1).clamp(FOCAL_SMOOTHING, 1 - FOCAL_SMOOTHING)
    p_BHW = (true_B2HW * map_B2HW).sum(1) + FOCAL_SMOOTHING
    return ((1 - p_BHW) ** GAMMA * -p_BHW.log()).mean()


def dice_loss(probability_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """1 - 2 overlap / (sum of both), picture by picture and averaged (B.4).

    1 is added above and below: a picture without such pixels is then lossless when none are found.
    """
    overlap_B = (probability_BHW * mask_BHW).flatten(1).sum(1)
    sizes_B = probability_BHW.flatten(1).sum(1) + mask_BHW.flatten(1).sum(1)
    return (1 - (2 * overlap_B + DICE_SMOOTHING) / (sizes_B + DICE_SMOOTHING)).mean()


def segmentation_losses(map_B2HW: Tensor, mask_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Focal and dice term of one map; the dice term is that of the anomalous and of the normal pixels."""
    normal_BHW, anomalous_BHW = map_B2HW.unbind(1)
    dice = dice_loss(normal_BHW, 1 - mask_BHW) + dice_loss(anomalous_BHW, mask_BHW)
    return focal_loss(map_B2HW, mask_BHW), dice


def image_loss(logits_B2: Tensor, is_anomalous_B: Tensor) -> Tensor:
    """Binary cross-entropy of the image score with the label (Eq. 15).

    logits_B2: 100 * cosine of the image with the normal and the anomalous text. The score is the softmax over
    both, as in the maps: a cosine by itself, as printed, is no probability.
    """
    return F.binary_cross_entropy_with_logits(logits_B2[:, 1] - logits_B2[:, 0], is_anomalous_B)


class Supervision(NamedTuple):
    """What is known of a batch: masks float (B, H, W) and labels float (B,), 1 where anomalous."""

    mask: Tensor
    is_anomalous: Tensor


class Evidence(NamedTuple):
    """What the model says of a batch; the last two of every MoE layer.

    maps: M maps (B, 2, H, W), softmaxes of Eq. 12. image_logits: (B, 2). experts: outputs (B, T, K, D) of
    all experts. routing: probabilities (B, T, K).
    """

    maps: Sequence[Tensor]
    image_logits: Tensor
    experts: Sequence[Tensor]
    routing: Sequence[Tensor]


def total_loss(evidence: Evidence, truth: Supervision, weights: LossWeights) -> Losses:
    """All terms of a batch and their weighted sum, Eq. 16."""
    terms = [segmentation_losses(one, truth.mask) for one in evidence.maps]
    focal, dice = (torch.stack(column).sum() for column in zip(*terms, strict=True))
    image = image_loss(evidence.image_logits, truth.is_anomalous)
    zero = torch.zeros_like(image)
    etf = sum((etf_loss(one) for one in evidence.experts), zero)
    balance = sum((balance_loss(one) for one in evidence.routing), zero)
    total = focal + dice + image + weights.etf * etf + weights.balance * balance
    return Losses(focal, dice, image, etf, balance, total)
