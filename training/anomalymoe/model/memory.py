"""A bounded memory of what is normal, and the axes on which it is compared.

Legend: n rows, D width, C mixed channels, M remembered rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CANDIDATES = 20_000  # rows among which the memory is chosen


class Memory(nn.Module):
    """Rows of normal pictures; what is far from all of them was never seen."""

    rows: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))

    def forward(self, x_nC: Tensor) -> Tensor:
        """Squared distance of each vector to the nearest row, (n,)."""
        # |x - m|^2 = |x|^2 - 2 (x.m - |m|^2 / 2): one product of x and 1 with m and what is taken away.
        rows_MC = torch.cat([self.rows, self.rows.square().sum(1, keepdim=True) / -2], 1)
        similarity_nM = F.pad(x_nC, (0, 1), value=1.0) @ rows_MC.T
        # How a row is added up may depend on where in memory it begins, and so on the others of its batch.
        square_n = F.pad(x_nC.square(), (0, -x_nC.shape[-1] % 16)).sum(-1)
        return (square_n - 2 * similarity_nM.amax(-1)).clamp(min=0)

    @torch.no_grad()
    def fit(self, normal_nC: Tensor) -> None:
        """Keep those rows that cover the others best; all of them, repeated, where they are fewer.

        They are rounded to half precision, in which a bundle keeps them at half the size.
        """
        chosen_nC = cover(normal_nC, min(len(self.rows), len(normal_nC)))
        self.rows.copy_(chosen_nC[torch.arange(len(self.rows)) % len(chosen_nC)].half())


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
