"""Patch experts: a transformer that rebuilds corrupted features, for fine structural anomalies.

Legend: B batch, T tokens, G fuse groups, D width, F = G * D, h w patch grid.
"""

import torch
from torch import Tensor, nn

from training.anomalymoe.model.config import PatchConfig
from training.anomalymoe.model.expert import (
    ExpertOutput,
    cosine_distance,
    init_linear,
    mean_of_groups,
    split_groups,
)
from training.backbones.transformer import Block, LinearAttention, Mlp

_NORM_EPS = 1e-8


class PatchExpert(nn.Module):
    """Noise, bottleneck MLP and linear-attention blocks whose outputs are averaged for each fuse group."""

    def __init__(self, width: int, grid: tuple[int, int], prefix_tokens: int, config: PatchConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        self.noise_std = config.noise_std
        self.bottleneck = Mlp(width, config.bottleneck_ratio, config.dropout)
        self.decoder = nn.ModuleList(
            Block(LinearAttention(width, config.heads), width, config.mlp_ratio, _NORM_EPS, layer_scale=False)
            for _ in range(config.depth)
        )
        self.apply(init_linear)

    def forward(self, features_BTF: Tensor) -> ExpertOutput:
        """Eq. 6 on the patch tokens; the cosine distances of several fuse groups are averaged."""
        patches = slice(self.prefix_tokens, None)
        rebuilt_BTGD = self.reconstruct(features_BTF)[:, patches]
        targets_BTGD = split_groups(features_BTF, self.width)[:, patches]
        error_BN = cosine_distance(rebuilt_BTGD, targets_BTGD).mean(2)
        return ExpertOutput(error_BN.unflatten(1, self.grid), error_BN.mean(1), rebuilt_BTGD.mean((1, 2)))

    def reconstruct(self, features_BTF: Tensor) -> Tensor:
        """All tokens rebuilt from corrupted ones, (B, T, G, D).

        Raises ValueError when the blocks cannot be shared evenly between the fuse groups.
        """
        groups = features_BTF.shape[-1] // self.width
        if len(self.decoder) % groups:
            raise ValueError(f"depth must be a multiple of the {groups} fuse groups, got {len(self.decoder)}")
        x_BTD = self.bottleneck(self._corrupt(mean_of_groups(features_BTF, self.width)))
        outputs: list[Tensor] = []
        for block in self.decoder:
            x_BTD = block(x_BTD)
            outputs.append(x_BTD)
        # The last block of the decoder faces the first block of the encoder.
        return torch.stack(outputs[::-1], dim=2).unflatten(2, (groups, -1)).mean(3)

    def _corrupt(self, x_BTD: Tensor) -> Tensor:
        """The Gaussian noise of Eq. 5, in training only; its dropout is the first one of the bottleneck."""
        return x_BTD + self.noise_std * torch.randn_like(x_BTD) if self.training else x_BTD
