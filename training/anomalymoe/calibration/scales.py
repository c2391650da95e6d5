"""Errors of all experts on one scale, and image scores of every expert in one unit.

Legend: n pictures, E experts, h w patch grid, N errors of an expert.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.anomalymoe.calibration.knowledge import BATCH
from training.anomalymoe.calibration.outputs import Outputs
from training.anomalymoe.model.config import Scoring
from training.anomalymoe.model.head import Head
from training.reach import folds

PRIOR = 10  # pictures: with so many, a place counts for itself as much as for the whole picture
OFFSET_QUANTILE = 0.9
SCALE_QUANTILE = 0.999
DEVIATIONS = 3  # an image score of 1: so far above the mean of normal pictures
LEAST_SCALE = 1e-3


class Scales(NamedTuple):
    """Offset and scale (E, h, w) of the errors."""

    offset: Tensor
    scale: Tensor


def fit_scales(errors_nEhw: Tensor, scoring: Scoring, unit_E: Tensor) -> Scales:
    """Bring the errors of all experts to one scale, and for `calibrated` scoring of all places.

    paper: the mean error of an expert counts 1. calibrated: common errors count 0, rare ones 1 over the unit;
    a place is compared with itself in other pictures, the less so the fewer there are.
    """
    if scoring == "paper":
        mean_E = errors_nEhw.mean((0, 2, 3)).clamp(min=1e-6)
        return Scales(torch.zeros_like(errors_nEhw[0]), mean_E[:, None, None].expand_as(errors_nEhw[0]))
    own = len(errors_nEhw) / (len(errors_nEhw) + PRIOR)
    mean_Ehw = errors_nEhw.mean(0)
    mean_Ehw = own * mean_Ehw + (1 - own) * mean_Ehw.mean((1, 2), keepdim=True)
    variance_Ehw = (errors_nEhw - mean_Ehw).square().mean(0)
    spread_Ehw = (variance_Ehw * own + variance_Ehw.mean((1, 2), keepdim=True)).sqrt().clamp(min=1e-6)
    deviations_EN = ((errors_nEhw - mean_Ehw) / spread_Ehw).transpose(0, 1).flatten(1)
    common, rare = np.quantile(deviations_EN.numpy(), [OFFSET_QUANTILE, SCALE_QUANTILE], axis=1)
    span = np.maximum(rare - common, LEAST_SCALE) * unit_E.numpy()
    offset, scale = (
        torch.from_numpy(one.astype(np.float32))[:, None, None] * spread_Ehw for one in (common, span)
    )
    return Scales(mean_Ehw + offset, scale)


def expert_units(head: Head, seen: Outputs) -> Tensor:
    """What each expert's image scores of normal pictures hardly reach, (E,).

    1 for an expert that this product's pictures do not choose: it is asked about other pictures only, and
    must not be hushed.
    """
    unit_E = torch.ones(seen.errors.shape[1])
    scores_nE = torch.cat(
        [
            head(((part.errors - scales.offset) / scales.scale).clamp(min=0)).level_scores
            for part, scales in cross_fitted(seen, "calibrated", unit_E)
        ]
    )
    reached_E = scores_nE.mean(0) + DEVIATIONS * scores_nE.std(0, correction=0)
    return torch.where(seen.router.chosen.any(0), reached_E.clamp(min=LEAST_SCALE), unit_E)


def cross_fitted(seen: Outputs, scoring: Scoring, unit_E: Tensor) -> Iterator[tuple[Outputs, Scales]]:
    """The pictures a batch at a time, each with the scales of others, as for pictures never seen."""
    numbers = torch.arange(len(seen.cls))
    for inside, others in (map(torch.from_numpy, fold) for fold in folds(len(numbers))):
        scales = fit_scales(seen.errors[others], scoring, unit_E)
        yield from ((seen.take(rows), scales) for rows in numbers[inside].split(BATCH))
