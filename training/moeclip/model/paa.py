"""Patch average aggregation: every patch as the mean of its neighbourhood (Eq. 10 of the MoECLIP paper)."""

from torch import Tensor
from torch.nn import functional as F


def aggregate(patches_BND: Tensor, grid: tuple[int, int], scale: int) -> Tensor:
    """Mean over a window of scale x scale patches, (B, N, D); beyond the border are zeros, which count.

    grid: patches (h, w), N = h w. scale: odd; 1 changes nothing.
    """
    if scale == 1:
        return patches_BND
    grid_BDhw = patches_BND.transpose(1, 2).unflatten(2, grid)
    pooled = F.avg_pool2d(grid_BDhw, scale, stride=1, padding=scale // 2, count_include_pad=True)
    return pooled.flatten(2).transpose(1, 2)
