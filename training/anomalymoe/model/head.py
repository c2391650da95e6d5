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
    """Bilinear upsampling, 5 x 5 Gaussian of sigma 4 padded with zeros, mean of the top 1 % of the pixels.

    Both are linear and treat rows like columns, so that each side of a map takes one product.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, map_size: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.top = max(1, int(_TOP_FRACTION * map_size[0] * map_size[1]))
        self.register_buffer("rows", _spread(grid[0], map_size[0]).T.contiguous(), persistent=False)
        self.register_buffer("columns", _spread(grid[1], map_size[1]), persistent=False)

    def forward(self, levels_BLhw: Tensor) -> HeadOutput:
        maps_BLHW = self.rows @ levels_BLhw @ self.columns
        map_BHW = maps_BLHW.sum(1)
        return HeadOutput(map_BHW, self._score(map_BHW), self._score(maps_BLHW))

    def _score(self, maps: Tensor) -> Tensor:
        highest = maps.flatten(-2).topk(self.top, dim=-1, sorted=False).values
        # How a row is added up may depend on where in memory it begins, and so on its place in a batch.
        return F.pad(highest, (0, -self.top % 16)).sum(-1) / self.top


def _spread(coarse: int, fine: int) -> Tensor:
    """What each of `coarse` patches in a line gives to each of `fine` pixels, (coarse, fine)."""
    upsampled = F.interpolate(torch.eye(coarse)[:, None], fine, mode="linear", align_corners=False)
    distance = torch.arange(_KERNEL) - (_KERNEL - 1) / 2
    weights = torch.exp(-distance.square() / (2 * _SIGMA**2))
    kernel = (weights / weights.sum()).view(1, 1, _KERNEL)
    return F.conv1d(upsampled, kernel, padding=_KERNEL // 2).squeeze(1)
