"""Pictures to maps and scores with the torch model, as the service computes them with the exported one.

Legend: B batch, E experts, M components, L levels, D width, h w patch grid, Hm Wm map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.contract.appearance import appearance
from export.contract.category import Category
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.model.head import Head, HeadOutput
from training.data.component_masks import DILATION


class Scored(NamedTuple):
    """What the service makes of pictures: level maps (B, L, h, w), and the score (B,) of their distances."""

    levels: Tensor
    evidence: Tensor


@torch.inference_mode()
def score_pictures(
    detector: AnomalyMoE, head: Head, pixels: Tensor, categories: Sequence[Category], *, dense: bool = False
) -> HeadOutput:
    """Maps, scores and level scores of uint8 pictures (B, H, W, 3), each with its category.

    The scores are those of the maps; a verdict looks at the distance, too: see `judged`.
    """
    return head(judged(detector, pixels, categories, dense=dense).levels)


@torch.inference_mode()
def judged(
    detector: AnomalyMoE, pixels: Tensor, categories: Sequence[Category], *, dense: bool = False
) -> Scored:
    """Level maps and evidence of uint8 pictures (B, H, W, 3), by the calibration of their categories."""
    offset, scale = (
        torch.from_numpy(np.stack([getattr(category, field) for category in categories])).to(detector.mean)
        for field in ("error_offset", "error_scale")
    )
    cls, detection = _detect(detector, pixels, categories, dense=dense)
    evidence = [
        category.evidence(category.distance(token, appearance(picture)))
        for category, token, picture in zip(categories, cls.cpu().numpy(), pixels.numpy(), strict=True)
    ]
    return Scored(detector.level_maps(detection, offset, scale).cpu(), torch.tensor(evidence))


class RawLevels(NamedTuple):
    """Level maps (B, L, h, w) of gated errors without calibration, and each level's largest gate (B, L)."""

    levels: Tensor
    gates: Tensor


@torch.inference_mode()
def raw_levels(
    detector: AnomalyMoE, pixels: Tensor, categories: Sequence[Category], masks: Tensor | None = None
) -> RawLevels:
    """What the experts give, before anything is calibrated.

    masks: components from files, bool (B, M, h, w), in place of the detector's own; no categories are then
    needed.
    """
    _, detection = _detect(detector, pixels, categories, masks)
    zeros = detector.mean.new_zeros(len(pixels), len(detector.experts), *detector.encoder.grid)
    is_of_level_BLK = detector.level_of_expert[:, detection.router.experts].transpose(0, 1)
    gates_BL = (is_of_level_BLK * detection.router.gates[:, None]).amax(-1)
    return RawLevels(detector.level_maps(detection, zeros, zeros + 1).cpu(), gates_BL.cpu())


def _detect(
    detector: AnomalyMoE,
    pixels: Tensor,
    categories: Sequence[Category],
    masks: Tensor | None = None,
    dense: bool = False,
) -> tuple[Tensor, Detection]:
    """cls tokens (B, D), and what the detector finds."""
    image = detector.normalise(pixels)
    encoded = detector.encode(image)
    dilation = DILATION
    if masks is None:
        centres = stack_centres([category.centres for category in categories])
        own = detector.component_masks(
            encoded.features, centres.values.to(image.device), centres.valid.to(image.device)
        )
        masks, dilation = own, 1
    scene = Scene(image, encoded.features, masks.to(image.device), dilation)
    return encoded.cls, detector.detect(scene, detector.router(encoded.cls), dense)
