"""A patch expert in closed form: each patch against a mixture of Gaussians of normal patches.

Legend: b pictures, n rows, N patches, D width, C mixed channels, K Gaussians, P = n N, h w patch grid.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import GaussiansConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches

ROWS = 20_000  # random patches that the mixture is fitted to
NEIGHBOURHOOD = 3  # patches: what a patch looks like depends on those around it
FLOOR = 0.005  # added to the variance of every direction, as a share of the mean variance
STEPS = 50  # of expectation and maximisation, at most


class GaussianExpert(nn.Module):
    """F_target of each patch and its neighbours, on its principal axes, by its likelihood among normal ones.

    A mixture needs no training by gradients and cannot learn to copy a defect, as the decoder of Eq. 5 can
    where pictures are few. The error is twice the negative logarithm of weight and density of the Gaussian
    that explains the patch best, less the least that is possible: its squared Mahalanobis distance where
    all are alike.
    """

    mixing: Tensor
    mean: Tensor
    whitening: Tensor
    surplus: Tensor

    def __init__(
        self, width: int, grid: tuple[int, int], prefix_tokens: int, config: GaussiansConfig
    ) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        self.register_buffer("mixing", torch.zeros(config.channels, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(config.channels + 1, config.count * config.channels))
        self.register_buffer("surplus", torch.zeros(config.count))

    def forward(self, features_bTF: Tensor) -> ExpertOutput:
        """Nothing here is moved by gradients."""
        mixed_bNC = self._mix(features_bTF)
        # One matrix product for all Gaussians; the last row takes away their means.
        whitened_bNKC = (F.pad(mixed_bNC, (0, 1), value=1.0) @ self.whitening).unflatten(
            2, (len(self.surplus), -1)
        )
        # One pass over it, where squares and their sum take two.
        error_bN = (torch.linalg.vector_norm(whitened_bNKC, dim=3).square() + self.surplus).amin(2)
        pooled_bD = mixed_bNC.mean(1) @ self.mixing
        return ExpertOutput(error_bN.unflatten(1, self.grid), error_bN.mean(1), pooled_bD)

    @torch.no_grad()
    def fit(self, normal_nTF: Tensor, views: Sequence[slice]) -> None:
        """Learn axes and mixture from the features of normal pictures, all of whose views count alike.

        The matrices are rounded to half precision, in which a bundle keeps them at half the size. Of fewer
        patches than twice the Gaussians only as many Gaussians are fitted, and repeated.
        """
        patches_ND = target_patches(normal_nTF, self.width, self.prefix_tokens).flatten(0, 1)
        self.mean.copy_(patches_ND.mean(0))
        self.mixing.copy_(even_axes(patches_ND, views, len(self.mixing)))
        rows_nC = self._mixed_sample(normal_nTF, len(patches_ND))
        whitening_KCC, mean_KC, surplus_K = _gaussians(rows_nC, len(self.surplus))
        centre_K1C = -mean_KC.unsqueeze(1) @ whitening_KCC
        columns = torch.cat([whitening_KCC, centre_K1C], 1).transpose(0, 1).flatten(1)
        self.whitening.copy_(columns.half())
        self.surplus.copy_(surplus_K)

    def _mixed_sample(self, normal_nTF: Tensor, patches: int) -> Tensor:
        """At most ROWS random ones of the patches, (n, C); all at once would take more than the features."""
        order = torch.randperm(patches, generator=torch.Generator().manual_seed(0))[:ROWS]
        chosen_nN = (
            torch.zeros(patches, dtype=torch.bool).index_fill(0, order, True).view(len(normal_nTF), -1)
        )
        parts = zip(normal_nTF.split(16), chosen_nN.split(16), strict=True)
        ascending_nC = torch.cat([self._mix(features)[chosen] for features, chosen in parts])
        return ascending_nC[order.argsort().argsort()]

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


def _gaussians(rows_nC: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whitening matrices (K, C, C), means (K, C), and twice the negative logarithm of the largest density of
    each times its weight, the least of them being 0 (K,).
    """
    floor = max(FLOOR * float(rows_nC.var(0).mean()), 1e-6)
    fitted = GaussianMixture(
        min(count, max(1, len(rows_nC) // 2)), reg_covar=floor, max_iter=STEPS, tol=1e-2, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # STEPS are enough, and what is found is used
        fitted.fit(rows_nC.numpy())
    whitening, mean, weight = (
        np.asarray(one) for one in (fitted.precisions_cholesky_, fitted.means_, fitted.weights_)
    )
    density = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(1) + np.log(weight)
    surplus = 2 * (density.max() - density)
    repeated = np.arange(count) % len(mean)
    whitening_KCC, mean_KC, surplus_K = (
        torch.from_numpy(one[repeated].astype(np.float32)) for one in (whitening, mean, surplus)
    )
    return whitening_KCC, mean_KC, surplus_K
