"""The frozen encoder: what the detector expects of one, and the DINOv2-style vision transformer.

Legend: B batch, T tokens, P prefix tokens, N patches, D width, G fuse groups, F = G * D, H W pixels.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from training.backbones.base import RGB, EncoderOutput, Frozen
from training.backbones.transformer import Attention, Block


class ViTConfig(Frozen):
    """A DINOv2-style encoder; the defaults are ViT-B/14 with registers at 392 pixels."""

    width: int = Field(default=768, gt=0)
    depth: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    patch_size: int = Field(default=14, gt=0)
    image_size: tuple[int, int] = (392, 392)
    position_grid: int = Field(default=37, gt=0)
    registers: int = Field(default=4, ge=0)
    fuse_groups: tuple[tuple[int, ...], ...] = ((2, 3, 4, 5, 6, 7, 8, 9),)
    mean: RGB = (0.485, 0.456, 0.406)
    std: RGB = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _check(self) -> "ViTConfig":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        if any(side % self.patch_size for side in self.image_size):
            raise ValueError(f"image_size must be a multiple of {self.patch_size}, got {self.image_size}")
        if not self.fuse_groups or not all(self.fuse_groups):
            raise ValueError(f"fuse_groups must name at least one block each, got {self.fuse_groups}")
        blocks = [block for group in self.fuse_groups for block in group]
        if min(blocks) < 0 or max(blocks) >= self.depth:
            raise ValueError(f"fuse_groups must name blocks 0..{self.depth - 1}, got {self.fuse_groups}")
        return self


_NORM_EPS = 1e-6
_MLP_RATIO = 4.0
# DINOv2 asks for slightly more than the grid, so that rounding never loses a row.
_POSITION_OFFSET = 0.1


class VisionTransformer(nn.Module):
    """DINOv2 ViT: F_target is the mean output of the blocks of each fuse group, cls that of the last block.

    Neither passes the final norm, which is therefore left out, as is the mask token of the pretraining.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        height, width = config.image_size
        self.config = config
        self.width = self.cls_width = config.width
        self.views = (slice(0, config.width),)
        self.grid = (height // config.patch_size, width // config.patch_size)
        self.prefix_tokens = 1 + config.registers
        self.image_size = config.image_size
        self.mean, self.std = config.mean, config.std
        self.patch_embed = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_tokens = (
            nn.Parameter(torch.zeros(1, config.registers, config.width)) if config.registers else None
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.position_grid**2, config.width))
        self.blocks = nn.ModuleList(
            Block(
                Attention(config.width, config.heads), config.width, _MLP_RATIO, _NORM_EPS, layer_scale=True
            )
            for _ in range(config.depth)
        )

    def forward(self, image: Tensor) -> EncoderOutput:
        x_BTD = self._embed(image)
        outputs: list[Tensor] = []
        for block in self.blocks:
            x_BTD = block(x_BTD)
            outputs.append(x_BTD)
        groups = [torch.stack([outputs[i] for i in group]).mean(0) for group in self.config.fuse_groups]
        return EncoderOutput(torch.cat(groups, dim=-1), x_BTD[:, 0])

    def _embed(self, image: Tensor) -> Tensor:
        """Tokens (B, T, D): cls with its position, registers without, patches with theirs."""
        patches_BND = self.patch_embed(image).flatten(2).transpose(1, 2)
        prefix_1PD = self.cls_token + self.pos_embed[:, :1]
        if self.register_tokens is not None:
            prefix_1PD = torch.cat([prefix_1PD, self.register_tokens], dim=1)
        prefix_BPD = prefix_1PD.expand(image.shape[0], -1, -1)
        return torch.cat([prefix_BPD, patches_BND + self._patch_positions()], dim=1)

    def _patch_positions(self) -> Tensor:
        """Position embeddings (1, N, D) on this picture's grid, resampled bicubic without antialiasing."""
        stored = self.config.position_grid
        positions = self.pos_embed[:, 1:]
        if self.grid == (stored, stored):
            return positions
        grid_1Dhw = positions.transpose(1, 2).unflatten(2, (stored, stored))
        factors = tuple((side + _POSITION_OFFSET) / stored for side in self.grid)
        resampled = F.interpolate(grid_1Dhw, scale_factor=factors, mode="bicubic", antialias=False)
        return resampled.flatten(2).transpose(1, 2)
