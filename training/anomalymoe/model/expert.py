"""What the experts of all three levels share: their answer, F_target and the cosine distance.

Legend: b pictures, T tokens, N patches, G fuse groups, D width, F = G * D, h w patch grid.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

_INIT_STD = 0.01


class ExpertOutput(NamedTuple):
    """error (b, h, w): anomaly map; loss (b,): reconstruction loss; pooled (b, D): mean reconstruction."""

    error: Tensor
    loss: Tensor
    pooled: Tensor


def init_linear(module: nn.Module) -> None:
    """Truncated normal weights of std 0.01 and zero biases for a linear layer; leaves other modules alone."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INIT_STD, a=-3 * _INIT_STD, b=3 * _INIT_STD)
        nn.init.zeros_(module.bias)


def target_patches(features_bTF: Tensor, width: int, prefix_tokens: int) -> Tensor:
    """F_target of the patch tokens, averaged over the fuse groups: (b, N, D)."""
    return mean_of_groups(features_bTF[:, prefix_tokens:], width)


def mean_of_groups(features_bTF: Tensor, width: int) -> Tensor:
    """F_target (b, T, D): the mean of the fuse groups, which lie side by side."""
    if features_bTF.shape[-1] == width:
        return features_bTF
    return split_groups(features_bTF, width).mean(2)


def split_groups(features_bTF: Tensor, width: int) -> Tensor:
    """The fuse groups one by one: (b, T, G, D)."""
    return features_bTF.unflatten(-1, (-1, width))


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cos over the last axis, 0..2; 1 when either vector is zero."""
    return 1 - F.cosine_similarity(a, b, dim=-1)
