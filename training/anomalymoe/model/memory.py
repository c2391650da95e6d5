"""A patch expert in closed form: each patch against the nearest of a bounded memory of normal patches.

Legend: b pictures, n rows, N patches, D width, C mixed channels, M remembered rows, h w patch grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import MemoryConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches

CANDIDATES = 20_000  # rows among which the memory is chosen
NEIGHBOURHOOD = 3  # patches: what a patch looks like depends on those around it


class Memory(nn.Module):
    """Rows of normal pictures; what is far from all of them was never seen."""

    rows: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))

    def forward(self, x_bNC: Tensor) -> Tensor:
        """Squared distance of each vector to the nearest row, (b, N)."""
        # |x - m|^2 = |x|^2 - 2 (x.m - |m|^2 / 2): one product of x and 1 with m and what is taken away.
        rows_MC = torch.cat([self.rows, self.rows.square().sum(1, keepdim=True) / -2], 1)
        similarity_bNM = F.pad(x_bNC, (0, 1), value=1.0) @ rows_MC.T
        return (x_bNC.square().sum(-1) - 2 * similarity_bNM.amax(-1)).clamp(min=0)

    @torch.no_grad()
    def fit(self, normal_nC: Tensor) -> None:
        """Keep those rows that cover the others best; all of them, repeated, where they are fewer.

        They are rounded to half precision, in which a bundle keeps them at half the size.
        """
        chosen_nC = cover(normal_nC, min(len(self.rows), len(normal_nC)))
        self.rows.copy_(chosen_nC[torch.arange(len(self.rows)) % len(chosen_nC)].half())


class MemoryExpert(nn.Module):
    """F_target of each patch and its neighbours, on its principal axes, against remembered ones.

    Nearest neighbours need no training and cannot learn to copy a defect, as the decoder of Eq. 5 can where
    pictures are few. The error is the squared distance in units of the mean variance of an axis.
    """

    mixing: Tensor
    mean: Tensor

    def __init__(self, width: int, grid: tuple[int, int], prefix_tokens: int, config: MemoryConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        self.register_buffer("mixing", torch.zeros(config.channels, width))
        self.register_buffer("mean", torch.zeros(width))
        self.memory = Memory(config.size, config.channels)

    def forward(self, features_bTF: Tensor) -> ExpertOutput:
        """Nothing here is moved by gradients."""
        mixed_bNC = self._mix(features_bTF)
        error_bN = self.memory(mixed_bNC)
        pooled_bD = mixed_bNC.mean(1) @ self.mixing
        return ExpertOutput(error_bN.unflatten(1, self.grid), error_bN.mean(1), pooled_bD)

    @torch.no_grad()
    def fit(self, normal_nTF: Tensor, views: Sequence[slice]) -> None:
        """Learn axes and memory from the features of normal pictures, all of whose views count alike."""
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mean.copy_(patches_ND.mean(0))
        self.mixing.copy_(even_axes(patches_ND, views, len(self.mixing)))
        batches = [self._mix(part).flatten(0, 1) for part in normal_nTF.split(16)]
        self.memory.fit(torch.cat(batches))

    def _mix(self, features_bTF: Tensor) -> Tensor:
        patches_bND = target_patches(features_bTF, self.width, self.prefix_tokens)
        mixed_bCN = ((patches_bND - self.mean) @ self.mixing.T).transpose(1, 2)
        averaged_bChw = F.avg_pool2d(
            mixed_bCN.unflatten(2, self.grid), NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False
        )
        return averaged_bChw.flatten(2).transpose(1, 2)


def even_axes(rows_nD: Tensor, views: Sequence[slice], count: int) -> Tensor:
    """The axes (count, D) of largest variance where every view, however wide, has a variance of 1 in all.

    Axes beyond the channels are zero.
    """
    covariance_DD = torch.cov(rows_nD.T)
    weight_D = torch.zeros(len(covariance_DD))
    for view in views:
        weight_D[view] = covariance_DD.diagonal()[view].sum().clamp(min=1e-6).rsqrt()
    _, vectors = torch.linalg.eigh(weight_D[:, None] * covariance_DD * weight_D)
    axes_CD = vectors.flip(1).T[:count] * weight_D
    return F.pad(axes_CD, (0, 0, 0, count - len(axes_CD)))


def cover(rows_nC: Tensor, count: int) -> Tensor:
    """`count` rows of which each was the farthest from those before it (k-centre, greedily), (count, C).

    At most CANDIDATES rows, chosen at random, are considered. The rarest normal patches are kept in this way,
    which a random choice would miss.
    """
    order = torch.randperm(len(rows_nC), generator=torch.Generator().manual_seed(0))
    rows_nC = rows_nC[order[: max(CANDIDATES, count)]]
    chosen = torch.zeros(count, dtype=torch.int64)
    distance_n = (rows_nC - rows_nC[0]).square().sum(1)
    for place in range(1, count):
        chosen[place] = distance_n.argmax()
        distance_n = torch.minimum(distance_n, (rows_nC - rows_nC[chosen[place]]).square().sum(1))
    return rows_nC[chosen]
