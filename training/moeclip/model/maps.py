"""From tokens and texts to anomaly maps and image scores (Eqs. 12 and 14 of the MoECLIP paper).

Legend: B pictures, S maps (layers times scales), N patches, E embedding, h w patch grid, H W pixels.
Texts are (2, E) for all pictures or (B, 2, E) for each its own: normal, then anomalous.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 100.0
INDUSTRIAL = (7, 1.0)  # Gaussian of the served map: size and sigma in patches
MEDICAL = (9, 1.5)


def patch_logits(tokens_BSNE: Tensor, text: Tensor) -> Tensor:
    """100 x cosine of every unit token with the normal and the anomalous text, (B, S, N, 2)."""
    return TEMPERATURE * tokens_BSNE @ _for_each(text).transpose(-1, -2).unsqueeze(1)


def image_logits(summary_BE: Tensor, text: Tensor) -> Tensor:
    """100 x cosine of the image token with the normal and the anomalous text, (B, 2)."""
    unit_BE = F.normalize(summary_BE, dim=-1)
    return TEMPERATURE * (unit_BE.unsqueeze(-2) @ _for_each(text).transpose(-1, -2)).squeeze(-2)


def training_maps(logits_BSN2: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Eq. 12: logits upsampled to (H, W), corners aligned, then softmax over the states, (B, S, 2, H, W)."""
    logits_BS2hw = logits_BSN2.transpose(-1, -2).unflatten(-1, grid)
    upsampled = F.interpolate(logits_BS2hw.flatten(0, 1), size, mode="bilinear", align_corners=True)
    return upsampled.softmax(1).unflatten(0, logits_BSN2.shape[:2])


def margins(logits_BSN2: Tensor) -> Tensor:
    """How much nearer to anomalous than to normal: 100 (cos a - cos n), mean of the maps, (B, N)."""
    return (logits_BSN2[..., 1] - logits_BSN2[..., 0]).mean(1)


def served_map(margins_BN: Tensor, medical_B: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Margins smoothed on the grid, upsampled to (H, W) and brought to 0..1, (B, H, W).

    medical_B: bool, the wider Gaussian. 0.5 is as near to anomalous as to normal. With S maps the released
    protocol's sum of (100 cos a + 1 - 100 cos n) / 2 is S / 2 (1 + margin): see `released_map`.
    """
    return torch.sigmoid(margin_map(margins_BN, medical_B, grid, size))


def released_map(
    margins_BN: Tensor, medical_B: Tensor, grid: tuple[int, int], size: tuple[int, int], maps: int
) -> Tensor:
    """The map of the released evaluation, the sum over all `maps` of (100 cos a + 1 - 100 cos n) / 2."""
    return maps / 2 * (1 + margin_map(margins_BN, medical_B, grid, size))


def image_score(map_BHW: Tensor, logits_B2: Tensor, medical_B: Tensor) -> Tensor:
    """Image scores 0..1, (B,).

    Industrial: mean of the map's maximum and the softmax of the image logits; medical: the map's maximum.
    """
    highest_B = map_BHW.flatten(1).amax(1)
    anomalous_B = logits_B2.softmax(-1)[:, 1]
    return torch.where(medical_B, highest_B, (highest_B + anomalous_B) / 2)


def score_margin(highest_B: Tensor, logits_B2: Tensor, medical_B: Tensor) -> Tensor:
    """The logit of `image_score`, float64 (B,): it ranks pictures, whose scores near 1 are all equal.

    highest_B: the largest margin of each map. With p and q as sigmoids of the two margins that are averaged,
    log((p + q) / (2 - p - q)), without forming either.
    """
    highest_B, logits_B2 = highest_B.double(), logits_B2.double()
    image_B = logits_B2[:, 1] - logits_B2[:, 0]
    anomalous_B = torch.logaddexp(F.logsigmoid(highest_B), F.logsigmoid(image_B))
    normal_B = torch.logaddexp(F.logsigmoid(-highest_B), F.logsigmoid(-image_B))
    return torch.where(medical_B, highest_B, anomalous_B - normal_B)


def released_score(summary_BE: Tensor, text: Tensor) -> Tensor:
    """The image score of the released evaluation, (t . v + 1) / 2 with the anomalous text t, (B,).

    v is the image token as it is, shorter than 1: not quite the cosine of Eq. 14.
    """
    return ((summary_BE * _for_each(text)[:, 1]).sum(-1) + 1) / 2


def _for_each(text: Tensor) -> Tensor:
    return text if text.ndim == 3 else text.unsqueeze(0)


def margin_map(margins_BN: Tensor, medical_B: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Gaussian of each picture's domain on the grid, reflected at the border, then bilinear upsampling."""
    grid_B1hw = margins_BN.unflatten(1, grid).unsqueeze(1)
    is_medical = medical_B.view(-1, 1, 1, 1)
    smooth_B1hw = torch.where(is_medical, _blur(grid_B1hw, *MEDICAL), _blur(grid_B1hw, *INDUSTRIAL))
    return F.interpolate(smooth_B1hw, size, mode="bilinear", align_corners=True).squeeze(1)


def _blur(grid_B1hw: Tensor, size: int, sigma: float) -> Tensor:
    margin = size // 2
    distance = torch.arange(size, dtype=grid_B1hw.dtype, device=grid_B1hw.device) - margin
    weights = torch.exp(-distance.square() / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = F.pad(grid_B1hw, (margin, margin, margin, margin), mode="reflect")
    return F.conv2d(padded, (weights[:, None] * weights)[None, None])
