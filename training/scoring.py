"""Pictures to maps and scores with the torch model, as the service computes them with the exported one.

Legend: B batch, E experts, M components, D width, h w patch grid, Hm Wm map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.contract.category import Category, FloatArray
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.head import Head, HeadOutput


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
    centres = stack_centres([category.centres for category in categories])
    detection = detector(detector.normalise(pixels), centres.values, centres.valid, dense)
    offset, scale = (
        torch.from_numpy(np.stack([getattr(category, field) for category in categories]))
        for field in ("error_offset", "error_scale")
    )
    return head(detector.level_maps(detection, offset, scale))
