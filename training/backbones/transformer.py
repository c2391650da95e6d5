"""Pre-norm transformer blocks, shared by the encoder (softmax attention) and the patch experts (linear).

Legend: B batch, T tokens, D width, n heads, d width of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two linear layers with GELU between; dropout before, between and after them."""

    def __init__(self, width: int, ratio: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * ratio))
        self.fc2 = nn.Linear(int(width * ratio), width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.fc1(self.dropout(x_BTD))))
        return self.dropout(self.fc2(hidden))


class Attention(nn.Module):
    """Multi-head self-attention, softmax (the encoder's)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed_BnTd = self.mix(q, k, v)
        return self.proj(mixed_BnTd.transpose(1, 2).flatten(2))

    def mix(self, q_BnTd: Tensor, k_BnTd: Tensor, v_BnTd: Tensor) -> Tensor:
        """Values averaged by softmax similarity, (B, n, T, d)."""
        return F.scaled_dot_product_attention(q_BnTd, k_BnTd, v_BnTd)


class LinearAttention(Attention):
    """Attention with phi(x) = elu(x) + 1 in place of the softmax: diffuse, and linear in T."""

    def mix(self, q_BnTd: Tensor, k_BnTd: Tensor, v_BnTd: Tensor) -> Tensor:
        """Values averaged by phi(q) phi(k), (B, n, T, d)."""
        q, k = _phi(q_BnTd), _phi(k_BnTd)
        normaliser = q @ k.sum(dim=2).unsqueeze(-1)
        # phi rounds to 0 far below zero: such a query must give 0, not 0 / 0.
        return q @ (k.transpose(2, 3) @ v_BnTd) / normaliser.clamp(min=1e-12)


class Block(nn.Module):
    """x + attention(norm(x)), then + mlp(norm(x)); with LayerScale when `layer_scale` is set."""

    def __init__(self, attention: Attention, width: int, mlp_ratio: float, eps: float, layer_scale: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_ratio)
        self.scale1 = nn.Parameter(torch.ones(width)) if layer_scale else None
        self.scale2 = nn.Parameter(torch.ones(width)) if layer_scale else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + _scaled(self.attn(self.norm1(x_BTD)), self.scale1)
        return x_BTD + _scaled(self.mlp(self.norm2(x_BTD)), self.scale2)


def _scaled(x_BTD: Tensor, scale_D: Tensor | None) -> Tensor:
    return x_BTD if scale_D is None else x_BTD * scale_D


def _phi(x: Tensor) -> Tensor:
    """elu(x) + 1, which has digits where elu is next to -1, too."""
    return x.clamp(max=0).exp() + x.relu()
