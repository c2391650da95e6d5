"""From gated level maps to one anomaly map and scores.

Legend: B batch, L levels, h w patch grid, Hm Wm map.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_KERNEL = 5
_SIGMA = 4.0
_TOP_FRACTION = 0.01


class HeadOutput(NamedTuple):
    """map (B, Hm, Wm), score (B,) and level_scores (B, L), all raw: 0 is perfectly normal."""

    map: Tensor
    score: Tensor
    level_scores: Tensor


class Head(nn.Module):
    """Bilinear upsampling, 5 x 5 Gaussian of sigma 4 padded with zeros, mean of the top 1 % of the pixels."""

    kernel: Tensor

    def __init__(self, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        self.top = max(1, int(_TOP_FRACTION * map_size[0] * map_size[1]))
        self.register_buffer("kernel", _gaussian(_KERNEL, _SIGMA), persistent=False)

    def forward(self, levels_BLhw: Tensor) -> HeadOutput:
        upsampled = F.interpolate(levels_BLhw, self.map_size, mode="bilinear", align_corners=False)
        kernel = self.kernel.expand(levels_BLhw.shape[1], 1, -1, -1)
        maps_BLHW = F.conv2d(upsampled, kernel, padding=_KERNEL // 2, groups=levels_BLhw.shape[1])
        map_BHW = maps_BLHW.sum(1)
        return HeadOutput(map_BHW, self._score(map_BHW), self._score(maps_BLHW))

    def _score(self, maps: Tensor) -> Tensor:
        return maps.flatten(-2).topk(self.top, dim=-1).values.mean(-1)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Kernel (1, 1, size, size) that sums to 1."""
    distance = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-distance.square() / (2 * sigma**2))
    weights = weights / weights.sum()
    return (weights[:, None] * weights).view(1, 1, size, size)
