"""Pictures to maps and scores with the torch model, as the service computes them with the exported one.

Legend: B batch, E experts, M components, L levels, D width, h w patch grid, Hm Wm map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.contract.category import Category, FloatArray
from training.anomalymoe.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.head import Head, HeadOutput
from training.component_masks import DILATION


class Centres(NamedTuple):
    """Component centres (B, M, D) of each picture's product, and which are not padding, bool (B, M)."""

    values: Tensor
    valid: Tensor


def stack_centres(centres: Sequence[FloatArray]) -> Centres:
    """One row a picture; products with fewer components are padded."""
    most = max(len(one) for one in centres)
    padded = np.zeros((len(centres), most, centres[0].shape[1]), np.float32)
    valid = np.zeros((len(centres), most), np.bool_)
    for row, one in enumerate(centres):
        padded[row, : len(one)], valid[row, : len(one)] = one, True
    return Centres(torch.from_numpy(padded), torch.from_numpy(valid))


@torch.inference_mode()
def score_pictures(
    detector: AnomalyMoE, head: Head, pixels: Tensor, categories: Sequence[Category], *, dense: bool = False
) -> HeadOutput:
    """Maps, scores and level scores of uint8 pictures (B, H, W, 3), each with its category."""
    return head(calibrated_levels(detector, pixels, categories, dense=dense))


@torch.inference_mode()
def calibrated_levels(
    detector: AnomalyMoE, pixels: Tensor, categories: Sequence[Category], *, dense: bool = False
) -> Tensor:
    """Level maps (B, L, h, w) of uint8 pictures, by the calibration of their categories."""
    offset, scale = (
        torch.from_numpy(np.stack([getattr(category, field) for category in categories])).to(detector.mean)
        for field in ("error_offset", "error_scale")
    )
    return detector.level_maps(_detect(detector, pixels, categories, dense=dense), offset, scale).cpu()


@torch.inference_mode()
def raw_levels(
    detector: AnomalyMoE, pixels: Tensor, categories: Sequence[Category], masks: Tensor | None = None
) -> Tensor:
    """Level maps (B, L, h, w) of gated errors as the experts give them, without calibration.

    masks: components from files, bool (B, M, h, w), in place of the detector's own; no categories are then
    needed.
    """
    detection = _detect(detector, pixels, categories, masks)
    zeros = detector.mean.new_zeros(len(pixels), len(detector.experts), *detector.encoder.grid)
    return detector.level_maps(detection, zeros, zeros + 1).cpu()


def _detect(
    detector: AnomalyMoE,
    pixels: Tensor,
    categories: Sequence[Category],
    masks: Tensor | None = None,
    dense: bool = False,
) -> Detection:
    image = detector.normalise(pixels)
    if masks is None:
        centres = stack_centres([category.centres for category in categories])
        return detector(image, centres.values.to(image.device), centres.valid.to(image.device), dense)
    encoded = detector.encode(image)
    scene = Scene(image, encoded.features, masks.to(image.device), DILATION)
    return detector.detect(scene, detector.router(encoded.cls), dense)
