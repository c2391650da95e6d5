"""A component expert in closed form: each connected part of a component against those of normal pictures.

Legend: b pictures, n parts, N patches, P = b (N + 1) possible numbers of parts, M components, D width,
C mixed channels, V = 2 C + 3, X summed values, h w grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import PartConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches
from training.anomalymoe.model.gaussian import even_axes
from training.backbones.base import Size

REACH = 12  # steps from patch to patch; what is further apart counts as another part
PLACE_UNIT = 2.0  # patches by which the same part may lie elsewhere
CANDIDATES = 20_000  # parts among which the memory is chosen
LEAST_DEVIATION = 1e-3
LEAST_UNIT = 0.02  # what hardly varies must not become so large that float32 loses the rest


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


class Parts(NamedTuple):
    """number int64 (n,); described (n, V): mean and deviation of channels, log of the size, centre."""

    number: Tensor
    described: Tensor


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
        mixed_bNC = self._mix(features_bTF)
        number_bN = part_numbers(smooth(masks_bMhw))
        parts = self.parts(mixed_bNC, number_bN)
        error_n = self.memory(parts.described / self.unit)
        error_bN = _by_number(number_bN, parts.number, error_n)[number_bN] * masks_bMhw.any(1).flatten(1)
        pooled_bD = mixed_bNC.mean(1) @ self.mixing
        return ExpertOutput(error_bN.unflatten(1, self.grid), error_bN.mean(1), pooled_bD)

    def parts(self, mixed_bNC: Tensor, number_bN: Tensor) -> Parts:
        """Each part of the pictures once."""
        places_bN2 = self.places.expand(mixed_bNC.shape[0], -1, -1)
        ones_bN1 = torch.ones_like(places_bN2[..., :1])
        summed_bNX = torch.cat([mixed_bNC, mixed_bNC.square(), places_bN2, ones_bN1], 2)
        sums_PX = _by_number(number_bN, number_bN.flatten(), summed_bNX.flatten(0, 1))
        number_n = sums_PX[:, -1].nonzero().squeeze(1)
        total_nX, size_n1 = sums_PX[number_n].tensor_split([-1], dim=1)
        channels = len(self.mixing)
        mean_nC, square_nC, centre_n2 = (total_nX / size_n1).split([channels, channels, 2], dim=1)
        variance_nC = (square_nC - mean_nC.square()).clamp(min=LEAST_DEVIATION**2)
        return Parts(number_n, torch.cat([mean_nC, variance_nC.sqrt(), size_n1.log(), centre_n2], 1))

    @torch.no_grad()
    def fit(self, normal_nTF: Tensor, masks_nMhw: Tensor, views: Sequence[slice]) -> None:
        """Learn axes, units and memory from the features and component masks of normal pictures."""
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mean.copy_(patches_ND.mean(0))
        self.mixing.copy_(even_axes(patches_ND, views, len(self.mixing)))
        batches = zip(normal_nTF.split(8), masks_nMhw.split(8), strict=True)
        parts = [self._labelled_parts(self._mix(features), smooth(masks)) for features, masks in batches]
        described_nV, component_n = (torch.cat(column) for column in zip(*parts, strict=True))
        self.unit.copy_(_deviation_within(described_nV, component_n).clamp(min=LEAST_UNIT))
        self.unit[-2:] = PLACE_UNIT
        self.memory.fit(described_nV / self.unit)

    def _labelled_parts(self, mixed_bNC: Tensor, masks_bMhw: Tensor) -> tuple[Tensor, Tensor]:
        """Each part of the pictures once, (n, V), and the number of its component, (n,)."""
        number_bN = part_numbers(masks_bMhw)
        parts = self.parts(mixed_bNC, number_bN)
        component_P = torch.zeros(int(number_bN.max()) + 1, dtype=torch.uint8)
        component_P[number_bN] = masks_bMhw.flatten(2).to(torch.uint8).argmax(1).to(torch.uint8)
        return parts.described, component_P[parts.number]

    def _mix(self, features_bTF: Tensor) -> Tensor:
        patches_bND = target_patches(features_bTF, self.width, self.prefix_tokens)
        return (patches_bND - self.mean) @ self.mixing.T


def _by_number(number_bN: Tensor, rows_n: Tensor, values: Tensor) -> Tensor:
    """Sums of values (n, ...) over rows of the same number, (P, ...)."""
    possible = number_bN.shape[0] * (number_bN.shape[1] + 1)
    return values.new_zeros(possible, *values.shape[1:]).index_add(0, rows_n, values)


def smooth(masks_bMhw: Tensor) -> Tensor:
    """Give each covered patch to the component with most weight around it (1 2 1), bool (b, M, h, w).

    Clusters of single patches are ragged, and ragged parts are all different.
    """
    votes_bMhw = masks_bMhw.float()
    for padding in ((1, 0, 1, 0), (0, 1, 0, 1)):
        votes_bMhw = F.avg_pool2d(F.pad(votes_bMhw, padding), 2, 1)
    numbers_M = torch.arange(masks_bMhw.shape[1], device=masks_bMhw.device).view(1, -1, 1, 1)
    return (votes_bMhw.argmax(1, keepdim=True) == numbers_M) & masks_bMhw.any(1, keepdim=True)


def part_numbers(masks_bMhw: Tensor) -> Tensor:
    """A number for each patch, int64 (b, N): the same for patches of a component that touch.

    All patches of a picture that no component covers have one, too. Each step takes the largest number next
    to a patch, corners included, within its component.
    """
    inside = masks_bMhw.to(torch.float32)
    batch, _, height, width = masks_bMhw.shape
    patches = height * width
    numbers = torch.arange(1, patches + 1, dtype=inside.dtype, device=inside.device)
    labels = inside * numbers.view(height, width)
    for _ in range(REACH):
        labels = F.max_pool2d(labels, 3, 1, 1) * inside
    first_b1 = torch.arange(batch, device=inside.device).unsqueeze(1) * (patches + 1)
    return labels.amax(1).flatten(1).long() + first_b1


def _deviation_within(rows_nV: Tensor, group_n: Tensor) -> Tensor:
    """Standard deviation of each number within the groups, (V,)."""
    groups = [rows_nV[group_n == one] for one in group_n.unique()]
    return torch.cat([rows - rows.mean(0) for rows in groups]).square().mean(0).sqrt()


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
