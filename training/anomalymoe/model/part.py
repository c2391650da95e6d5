"""A component expert in closed form: each connected part of a component against those of normal pictures.

Legend: b pictures, n parts, N patches, M components, D width, C mixed channels, V = 2 C + 3, h w grid.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import PartConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches
from training.anomalymoe.model.memory import Memory, even_axes
from training.backbones.base import Size

REACH = 12  # steps from patch to patch; what is further apart counts as another part
PLACE_UNIT = 2.0  # patches by which the same part may lie elsewhere
LEAST_UNIT = 1e-3


class PartExpert(nn.Module):
    """Mean, spread, size and place of each part against the nearest ones of normal pictures.

    The mean over a whole component (Eq. 7) hides one wrong part among many of its kind. The error is the
    squared distance in units of what parts of one component vary by.
    """

    mixing: Tensor
    mean: Tensor
    unit: Tensor
    places: Tensor

    def __init__(self, width: int, grid: Size, prefix_tokens: int, config: PartConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        numbers = 2 * config.channels + 3
        self.register_buffer("mixing", torch.zeros(config.channels, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("unit", torch.ones(numbers))
        rows, columns = torch.arange(grid[0]), torch.arange(grid[1])
        self.register_buffer("places", torch.cartesian_prod(rows, columns).float(), persistent=False)
        self.memory = Memory(config.size, numbers)

    def forward(self, features_bTF: Tensor, masks_bMhw: Tensor) -> ExpertOutput:
        """The error of each part on its patches, 0 where there is no component."""
        described_bNV = self.describe(features_bTF, part_labels(smooth(masks_bMhw)).flatten(1))
        is_covered_bN = masks_bMhw.any(1).flatten(1)
        error_bN = self.memory(described_bNV / self.unit) * is_covered_bN
        pooled_bD = described_bNV[..., : len(self.mixing)].mean(1) @ self.mixing
        return ExpertOutput(error_bN.unflatten(1, self.grid), error_bN.mean(1), pooled_bD)

    def describe(self, features_bTF: Tensor, labels_bN: Tensor) -> Tensor:
        """Of the part of each patch, (b, N, V): mean and deviation of channels, log of its size, centre."""
        patches_bND = target_patches(features_bTF, self.width, self.prefix_tokens)
        mixed_bNC = (patches_bND - self.mean) @ self.mixing.T
        is_same_bNN = (labels_bN.unsqueeze(2) == labels_bN.unsqueeze(1)).to(mixed_bNC.dtype)
        size_bN1 = is_same_bNN.sum(2, keepdim=True)
        places_bN2 = self.places.expand(mixed_bNC.shape[0], -1, -1)
        means_bNX = is_same_bNN @ torch.cat([mixed_bNC, mixed_bNC.square(), places_bN2], 2) / size_bN1
        channels = len(self.mixing)
        mean_bNC, square_bNC, centre_bN2 = means_bNX.split([channels, channels, 2], dim=2)
        variance_bNC = (square_bNC - mean_bNC.square()).clamp(min=LEAST_UNIT**2)
        return torch.cat([mean_bNC, variance_bNC.sqrt(), size_bN1.log(), centre_bN2], 2)

    @torch.no_grad()
    def fit(self, normal_nTF: Tensor, masks_nMhw: Tensor, views: Sequence[slice]) -> None:
        """Learn axes, units and memory from the features and component masks of normal pictures."""
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mean.copy_(patches_ND.mean(0))
        self.mixing.copy_(even_axes(patches_ND, views, len(self.mixing)))
        batches = zip(normal_nTF.split(8), masks_nMhw.split(8), strict=True)
        parts = [self._parts(features, smooth(masks)) for features, masks in batches]
        described_nV, component_n = (torch.cat(column) for column in zip(*parts, strict=True))
        self.unit.copy_(_deviation_within(described_nV, component_n).clamp(min=LEAST_UNIT))
        self.unit[-2:] = PLACE_UNIT
        self.memory.fit(described_nV / self.unit)

    def _parts(self, features_bTF: Tensor, masks_bMhw: Tensor) -> tuple[Tensor, Tensor]:
        """Each part of the pictures once, (n, V), and the number of its component, (n,)."""
        labels_bN = part_labels(masks_bMhw).flatten(1)
        described_bNV = self.describe(features_bTF, labels_bN)
        component_bN = masks_bMhw.flatten(2).to(torch.uint8).argmax(1)
        firsts = [np.unique(labels_N, return_index=True)[1] for labels_N in labels_bN.numpy()]
        described, components = (
            torch.cat([values[first] for values, first in zip(rows, firsts, strict=True)])
            for rows in (described_bNV, component_bN)
        )
        return described, components


def smooth(masks_bMhw: Tensor) -> Tensor:
    """Give each covered patch to the component with most weight around it (1 2 1), bool (b, M, h, w).

    Clusters of single patches are ragged, and ragged parts are all different.
    """
    votes_bMhw = masks_bMhw.float()
    for padding in ((1, 0, 1, 0), (0, 1, 0, 1)):
        votes_bMhw = F.avg_pool2d(F.pad(votes_bMhw, padding), 2, 1)
    numbers_M = torch.arange(masks_bMhw.shape[1], device=masks_bMhw.device).view(1, -1, 1, 1)
    return (votes_bMhw.argmax(1, keepdim=True) == numbers_M) & masks_bMhw.any(1, keepdim=True)


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
