"""A component expert in closed form: each connected part of a component against those of normal pictures.

Legend: b pictures, N patches, M components, D width, C mixed channels, V = 2 C + 1 numbers, h w patch grid.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import PartConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches
from training.anomalymoe.model.memory import Memory, even_axes

REACH = 12  # steps from patch to patch; what is further apart counts as another part
LEAST_SPREAD = 1e-3


class PartExpert(nn.Module):
    """Mean, spread and size of each part against the nearest ones of normal pictures.

    The mean over a whole component (Eq. 7) hides one wrong part among many of its kind. The error is the
    squared distance in units of what parts of one component vary by.
    """

    mixing: Tensor
    mean: Tensor
    unit: Tensor

    def __init__(self, width: int, prefix_tokens: int, config: PartConfig) -> None:
        super().__init__()
        self.width, self.prefix_tokens = width, prefix_tokens
        self.register_buffer("mixing", torch.zeros(config.channels, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("unit", torch.ones(2 * config.channels + 1))
        self.memory = Memory(config.size, 2 * config.channels + 1)

    def forward(self, features_bTF: Tensor, masks_bMhw: Tensor) -> ExpertOutput:
        """The error of each part on its patches, 0 where there is no component."""
        described_bNV = self.describe(features_bTF, masks_bMhw)
        is_covered_bN = masks_bMhw.any(1).flatten(1)
        error_bN = self.memory(described_bNV / self.unit) * is_covered_bN
        pooled_bD = described_bNV[..., : len(self.mixing)].mean(1) @ self.mixing
        return ExpertOutput(error_bN.unflatten(1, masks_bMhw.shape[2:]), error_bN.mean(1), pooled_bD)

    def describe(self, features_bTF: Tensor, masks_bMhw: Tensor) -> Tensor:
        """Of the part that each patch belongs to: mean and deviation of its channels and log of its size."""
        patches_bND = target_patches(features_bTF, self.width, self.prefix_tokens)
        mixed_bNC = (patches_bND - self.mean) @ self.mixing.T
        labels_bN = part_labels(masks_bMhw).flatten(1)
        same_bNN = (labels_bN.unsqueeze(2) == labels_bN.unsqueeze(1)).to(mixed_bNC.dtype)
        sums_bNX = same_bNN @ torch.cat([mixed_bNC, mixed_bNC.square(), torch.ones_like(mixed_bNC[..., :1])], 2)
        sums_bNC, squares_bNC, size_bN1 = sums_bNX.split([*(2 * [len(self.mixing)]), 1], dim=2)
        mean_bNC = sums_bNC / size_bN1
        variance_bNC = squares_bNC / size_bN1 - mean_bNC.square()
        return torch.cat([mean_bNC, variance_bNC.clamp(min=LEAST_SPREAD**2).sqrt(), size_bN1.log()], 2)

    @torch.no_grad()
    def fit(self, normal_nTF: Tensor, masks_nMhw: Tensor, views: Sequence[slice]) -> None:
        """Learn axes, units and memory from the features and component masks of normal pictures."""
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mean.copy_(patches_ND.mean(0))
        self.mixing.copy_(even_axes(patches_ND, views, len(self.mixing)))
        batches = zip(normal_nTF.split(8), masks_nMhw.split(8), strict=True)
        parts = [self._parts(*batch) for batch in batches]
        described_nV, component_n = (torch.cat(column) for column in zip(*parts, strict=True))
        self.unit.copy_(_deviation_within(described_nV, component_n).clamp(min=LEAST_SPREAD))
        self.memory.fit(described_nV / self.unit)

    def _parts(self, features_bTF: Tensor, masks_bMhw: Tensor) -> tuple[Tensor, Tensor]:
        """Each part of the pictures once, (n, V), and the number of its component, (n,)."""
        described_bNV = self.describe(features_bTF, masks_bMhw)
        labels_bN = part_labels(masks_bMhw).flatten(1).numpy()
        firsts = [np.unique(labels_N, return_index=True)[1] for labels_N in labels_bN]
        component_bN = masks_bMhw.flatten(2).to(torch.uint8).argmax(1)
        return (
            torch.cat([rows[first] for rows, first in zip(described_bNV, firsts, strict=True)]),
            torch.cat([rows[first] for rows, first in zip(component_bN, firsts, strict=True)]),
        )


def part_labels(masks_bMhw: Tensor) -> Tensor:
    """A number for each patch, (b, h, w): the same for patches of a component that touch, 0 outside.

    Each step takes the largest number next to a patch, corners included, within its component.
    """
    inside = masks_bMhw.to(torch.float32)
    height, width = masks_bMhw.shape[2:]
    numbers = torch.arange(1, height * width + 1, dtype=inside.dtype, device=inside.device)
    labels = inside * numbers.view(height, width)
    for _ in range(REACH):
        labels = F.max_pool2d(labels, 3, 1, 1) * inside
    return labels.amax(1)


def _deviation_within(rows_nV: Tensor, group_n: Tensor) -> Tensor:
    """Standard deviation of each number within the groups, (V,)."""
    groups = [rows_nV[group_n == one] for one in group_n.unique()]
    return torch.cat([rows - rows.mean(0) for rows in groups]).square().mean(0).sqrt()
