"""The trained layers around CLIP: projections of patches, the image token's adapter, the text adapter.

Legend: B pictures, N patches, P texts, D width, E embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.01


class Projection(nn.Module):
    """D -> E without bias, with LeakyReLU if asked for: Proj_l of Eq. 11, and the text adapter."""

    def __init__(self, width: int, embedding: int, leaky: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(width**-0.5 * torch.randn(embedding, width))
        self.leaky = leaky

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.weight)
        return F.leaky_relu(projected, _SLOPE) if self.leaky else projected


class DepthwiseAdapter(nn.Module):
    """Patch tokens to one image token: LayerNorm, depthwise and pointwise convolution, mean (Eq. 13).

    The convolutions run along the sequence of patches. Every token is brought to unit length before the mean.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)
        self.pointwise = nn.Conv1d(width, embedding, 1, bias=False)

    def forward(self, patches_BND: Tensor) -> Tensor:
        hidden_BDN = F.gelu(self.depthwise(self.norm(patches_BND).transpose(1, 2)))
        return F.normalize(self.pointwise(hidden_BDN), dim=1).mean(2)
