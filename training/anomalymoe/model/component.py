"""Component experts: autoencoders of the mean feature of each part, for parts of the wrong kind.

Legend: b pictures, N patches, M components, D width, h w patch grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomalymoe.model.config import ComponentConfig
from training.anomalymoe.model.expert import ExpertOutput, cosine_distance, init_linear, target_patches


class ComponentExpert(nn.Module):
    """MLP autoencoder D -> hidden -> code -> code -> code -> hidden -> D of component embeddings."""

    def __init__(self, width: int, prefix_tokens: int, config: ComponentConfig) -> None:
        super().__init__()
        self.width, self.prefix_tokens = width, prefix_tokens
        self.encoder = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.code),
            nn.ReLU(),
            nn.Linear(config.code, config.code),
        )
        self.decoder = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.code, config.code),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.code, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, width),
        )
        self.apply(init_linear)

    def forward(self, features_bTF: Tensor, masks_bMhw: Tensor, dilation: int = 1) -> ExpertOutput:
        """Eq. 7 over the components present in the picture, painted back on their patches.

        dilation: as for `pool`; the painted masks are never dilated.
        """
        patches_bND = target_patches(features_bTF, self.width, self.prefix_tokens)
        embedding_bMD = pool(patches_bND, masks_bMhw, dilation)
        rebuilt_bMD = self.reconstruct(embedding_bMD)
        distance_bM = cosine_distance(embedding_bMD, rebuilt_bMD)
        share_bM = _shares(masks_bMhw).to(distance_bM.dtype)
        return ExpertOutput(
            error=paint(distance_bM, masks_bMhw),
            loss=(share_bM * distance_bM).sum(1),
            pooled=(share_bM.unsqueeze(-1) * rebuilt_bMD).sum(1),
        )

    def reconstruct(self, embedding_bMD: Tensor) -> Tensor:
        """Component embeddings passed through the code, (b, M, D)."""
        return self.decoder(self.encoder(embedding_bMD))


def assign(patches_bND: Tensor, centres_bMD: Tensor, valid_bM: Tensor, grid: tuple[int, int]) -> Tensor:
    """Give each patch to its nearest valid centre (Euclidean, as in K-means): bool masks (b, M, h, w)."""
    # |x - c|^2 without |x|^2, which is the same for all centres.
    distance_bNM = centres_bMD.square().sum(-1).unsqueeze(1) - 2 * patches_bND @ centres_bMD.transpose(1, 2)
    nearest_bN = distance_bNM.masked_fill(~valid_bM.unsqueeze(1), torch.inf).argmin(-1)
    numbers_M = torch.arange(centres_bMD.shape[1], device=nearest_bN.device)
    masks_bMN = (nearest_bN.unsqueeze(1) == numbers_M.view(1, -1, 1)) & valid_bM.unsqueeze(-1)
    return masks_bMN.unflatten(2, grid)


def grid_masks(masks_bMHW: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring masks from outside to the patch grid: nearest, bool (b, M, h, w)."""
    return F.interpolate(masks_bMHW.float(), grid, mode="nearest") > 0


def pool(patches_bND: Tensor, masks_bMhw: Tensor, dilation: int = 1) -> Tensor:
    """Component embeddings c_k (b, M, D): mean over the patches of each mask, zero for an empty one.

    dilation: odd side of a maximum over the masks, in patches; 1 keeps them. Masks that come from files
    rather than from the patches themselves are pooled with 5 in the released pipeline.
    """
    masks = masks_bMhw.to(patches_bND.dtype)
    if dilation > 1:
        masks = F.max_pool2d(masks, dilation, stride=1, padding=dilation // 2)
    masks_bMN = masks.flatten(2)
    # With the width in rows, by which threads share a product: its sums do not depend on their number.
    sum_bDM = patches_bND.transpose(1, 2) @ masks_bMN.transpose(1, 2)
    # An added 1e-8 would do as well, but the ONNX optimiser takes it for zero and drops it.
    return sum_bDM.transpose(1, 2) / masks_bMN.sum(-1, keepdim=True).clamp(min=1)


def paint(errors_bM: Tensor, masks_bMhw: Tensor) -> Tensor:
    """Each component's error on its patches, the largest where components overlap, else 0: (b, h, w)."""
    return (errors_bM[..., None, None] * masks_bMhw).amax(1)


def fit_centres(patches: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """K-means centres (M, D) of the patches (n, D) of one product's normal pictures.

    Raises ValueError when there are fewer patches than centres.
    """
    if len(patches) < count:
        raise ValueError(f"count must not exceed the number of patches {len(patches)}, got {count}")
    means = MiniBatchKMeans(count, random_state=seed, batch_size=4096).fit(patches)
    return np.asarray(means.cluster_centers_, dtype=np.float32)


class Centres(NamedTuple):
    """Component centres (b, M, D) of each picture's product, and which are not padding, bool (b, M)."""

    values: Tensor
    valid: Tensor


def stack_centres(centres: Sequence[NDArray[np.float32]]) -> Centres:
    """One row a picture; products with fewer components are padded."""
    most = max(len(one) for one in centres)
    padded = np.zeros((len(centres), most, centres[0].shape[1]), np.float32)
    valid = np.zeros((len(centres), most), np.bool_)
    for row, one in enumerate(centres):
        padded[row, : len(one)], valid[row, : len(one)] = one, True
    return Centres(torch.from_numpy(padded), torch.from_numpy(valid))


def _shares(masks_bMhw: Tensor) -> Tensor:
    """1 / K_c for each of the K_c components present in a picture, 0 for the absent ones: (b, M)."""
    present_bM = masks_bMhw.flatten(2).any(-1)
    return present_bM / present_bM.sum(1, keepdim=True).clamp(min=1)
