"""A global expert fitted in closed form: a linear autoencoder of F_target through a small code.

Legend: B batch, n m pictures, D width, C mixed channels, K code size, h w patch grid.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from training.anomalymoe.model.config import SubspaceConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches
from training.backbones.base import top_mean
from training.metrics import auroc

LEAST_NOISE = 0.05  # a channel that hardly varies, as colour in grey pictures, must not be blown up
NOISE_FLOOR = 1.0  # of the mean noise of a channel: a quiet place is trusted more than others, within limits


class SubspaceExpert(nn.Module):
    """F_target of the whole picture projected on the principal components of normal pictures.

    Where the paper trains a convolutional autoencoder (Eq. 8) on thousands of pictures, a few hundred decide
    a linear one exactly. The error is the squared distance (mean over channels) in units of what unseen
    normal pictures leave unexplained at that place.
    """

    mixing: Tensor
    mean: Tensor
    basis: Tensor
    noise: Tensor

    def __init__(self, width: int, grid: tuple[int, int], prefix_tokens: int, config: SubspaceConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        self.register_buffer("mixing", torch.eye(config.channels, width))
        self.register_buffer("mean", torch.zeros(config.channels, *grid))
        # By far the largest part of a bundle; half the digits leave the error as it is.
        numbers = config.channels * grid[0] * grid[1]
        self.register_buffer("basis", torch.zeros(config.code, numbers, dtype=torch.float16))
        self.register_buffer("noise", torch.ones(config.channels, *grid))

    def forward(self, features_BTF: Tensor) -> ExpertOutput:
        """Squared distance to the nearest point of the subspace; nothing here is moved by gradients."""
        mixed_BChw = self._mix(features_BTF)
        residual_BChw = self._residual(mixed_BChw)
        square_BCN = (residual_BChw / self.noise).square().flatten(2)
        # As a product: a mean over an axis adds up otherwise where a picture is alone in its batch.
        share_1C = square_BCN.new_full((1, square_BCN.shape[1]), 1 / square_BCN.shape[1])
        error = (share_1C @ square_BCN).view(-1, *self.grid)
        rebuilt_BC = (mixed_BChw - residual_BChw).mean((2, 3))
        return ExpertOutput(error, error.mean((1, 2)), rebuilt_BC @ self.mixing)

    @torch.no_grad()
    def fit(
        self, normal_nTF: Tensor, unseen_mTF: Tensor, damaged_mTF: Tensor, views: Sequence[slice]
    ) -> None:
        """Learn the subspace of normal pictures in the one of the `views` that shows defects best.

        unseen_mTF: other normal pictures, which give the noise; damaged_mTF: the same with synthetic defects.
        """
        labels = np.repeat([False, True], [len(unseen_mTF), len(damaged_mTF)])
        fitted: list[tuple[float, dict[str, Tensor]]] = []
        for view in views:
            self._fit_view(normal_nTF, unseen_mTF, view)
            errors = [self(features).error.flatten(1) for features in (unseen_mTF, damaged_mTF)]
            figure = auroc(labels, top_mean(torch.cat(errors)).numpy())
            fitted.append((figure, deepcopy(self.state_dict())))
        self.load_state_dict(max(fitted, key=lambda one: one[0])[1])

    def _fit_view(self, normal_nTF: Tensor, unseen_mTF: Tensor, view: slice) -> None:
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mixing.copy_(_selection(patches_ND, view, len(self.mixing)))
        mixed_nChw = self._mix(normal_nTF)
        self.mean.copy_(mixed_nChw.mean(0))
        deviations = (mixed_nChw - self.mean).flatten(1)
        components = torch.linalg.svd(deviations, full_matrices=False).Vh
        self.basis.zero_()
        count = min(len(self.basis), len(deviations) - 1)
        self.basis[:count] = components[:count]
        noise = self._residual(self._mix(unseen_mTF)).square().mean(0)
        floor = NOISE_FLOOR**2 * noise.mean((1, 2), keepdim=True)
        self.noise.copy_((noise + floor).sqrt().clamp(min=LEAST_NOISE))

    def _mix(self, features_BTF: Tensor) -> Tensor:
        patches_BND = target_patches(features_BTF, self.width, self.prefix_tokens)
        return (patches_BND @ self.mixing.T).transpose(1, 2).unflatten(2, self.grid)

    def _residual(self, mixed_BChw: Tensor) -> Tensor:
        deviation = (mixed_BChw - self.mean).flatten(1)
        basis = self.basis.to(deviation.dtype)
        return (deviation - deviation @ basis.T @ basis).view_as(mixed_BChw)


def _selection(patches_ND: Tensor, view: slice, count: int) -> Tensor:
    """Rows (count, D) that pick the channels of a view, or its principal axes if it has more than `count`.

    Rows beyond the channels of the view are zero.
    """
    channels_ND = patches_ND[:, view]
    rows = torch.eye(channels_ND.shape[1])
    if len(rows) > count:
        _, vectors = torch.linalg.eigh(torch.cov(channels_ND.T))
        rows = vectors.flip(1).T[:count]
    mixing = torch.zeros(count, patches_ND.shape[1])
    mixing[: len(rows), view] = rows
    return mixing
