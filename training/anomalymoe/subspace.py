"""A global expert fitted in closed form: a linear autoencoder of F_target through a small code.

Legend: B batch, n pictures, D width, C mixed channels, K code size, h w patch grid.
"""

import torch
from torch import Tensor, nn

from training.anomalymoe.config import SubspaceConfig
from training.anomalymoe.expert import ExpertOutput, target_patches

LEAST_NOISE = 0.01
NOISE_FLOOR = 0.5  # of the mean noise of a channel: no place in the picture is trusted more than twice


class SubspaceExpert(nn.Module):
    """F_target of the whole picture projected on the principal components of normal pictures.

    Where the paper trains a convolutional autoencoder (Eq. 8) on thousands of pictures, a few hundred decide
    a linear one exactly. The error is the squared distance (mean over channels) in units of what normal
    pictures leave unexplained at that place.
    """

    mixing: Tensor
    mean: Tensor
    basis: Tensor
    noise: Tensor

    def __init__(self, width: int, grid: tuple[int, int], prefix_tokens: int, config: SubspaceConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        channels = min(config.channels, width)
        self.register_buffer("mixing", torch.eye(channels, width))
        self.register_buffer("mean", torch.zeros(channels, *grid))
        self.register_buffer("basis", torch.zeros(config.code, channels * grid[0] * grid[1]))
        self.register_buffer("noise", torch.ones(channels, *grid))

    def forward(self, features_BTF: Tensor) -> ExpertOutput:
        """Squared distance to the nearest point of the subspace; nothing here is moved by gradients."""
        mixed_BChw = self._mix(features_BTF)
        residual_BChw = self._residual(mixed_BChw)
        error = (residual_BChw / self.noise).square().mean(1)
        rebuilt_BC = (mixed_BChw - residual_BChw).mean((2, 3))
        return ExpertOutput(error, error.mean((1, 2)), rebuilt_BC @ self.mixing)

    @torch.no_grad()
    def fit(self, features_nTF: Tensor) -> None:
        """Learn channels, mean, components and noise from the features of normal pictures.

        A third of the pictures is kept from the components, so that the noise is that of unseen pictures.
        """
        code, channels = self.basis.shape[0], self.mixing.shape[0]
        patches_ND = target_patches(features_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mixing.copy_(_principal_axes(patches_ND, channels))
        mixed_nChw = self._mix(features_nTF)
        fitted = torch.arange(len(mixed_nChw)) % 3 != 0
        self.mean.copy_(mixed_nChw[fitted].mean(0))
        deviations = (mixed_nChw[fitted] - self.mean).flatten(1)
        components = torch.linalg.svd(deviations, full_matrices=False).Vh[: min(code, len(deviations) - 1)]
        self.basis.zero_()
        self.basis[: len(components)] = components
        noise = self._residual(mixed_nChw[~fitted]).square().mean(0)
        floor = (NOISE_FLOOR**2) * noise.mean((1, 2), keepdim=True)
        self.noise.copy_((noise + floor).sqrt().clamp(min=LEAST_NOISE))

    def _mix(self, features_BTF: Tensor) -> Tensor:
        patches_BND = target_patches(features_BTF, self.width, self.prefix_tokens)
        return (patches_BND @ self.mixing.T).transpose(1, 2).unflatten(2, self.grid)

    def _residual(self, mixed_BChw: Tensor) -> Tensor:
        deviation = (mixed_BChw - self.mean).flatten(1)
        return (deviation - deviation @ self.basis.T @ self.basis).view_as(mixed_BChw)


def _principal_axes(samples_ND: Tensor, count: int) -> Tensor:
    """Orthonormal rows (count, D): the directions of greatest variance."""
    _, vectors = torch.linalg.eigh(torch.cov(samples_ND.T))
    return vectors.flip(1)[:, :count].T
