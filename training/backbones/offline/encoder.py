"""The offline backbone: a conv-ViT small enough to be trained from scratch on a factory's own pictures.

Shape legend: B batch, C channels, H W pixels, h w patch grid, N = h * w patches, T = 1 + N tokens, D width.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from training.backbones.base import FEATURE_OFFSET, LEAST_STD, EncoderOutput

STRIDE = 8
APPEARANCE_CHANNELS = 20


class OfflineConfig(BaseModel):
    """Size of the offline backbone; `mixers` names the token mixer of each block, first to last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: tuple[int, int] = (192, 192)
    width: int = 96
    stem_widths: tuple[int, int, int] = (24, 48, 96)
    mixers: tuple[Literal["convolution", "attention"], ...] = ("convolution", "convolution", "attention")
    heads: int = 3
    mlp_ratio: int = 3
    fused_blocks: tuple[int, ...] = (0, 1, 2)


class OfflineEncoder(nn.Module):
    """A convolutional stem of stride 8, then blocks that mix tokens by convolution or attention.

    F_target is the mean of the outputs of `fused_blocks` beside the plain `appearance` of each patch. It and
    cls are standardised per channel over normal pictures and then moved by FEATURE_OFFSET. Around that common
    offset a cosine distance grows with the square of a deviation; around zero it would see the direction of
    the noise alone, and far from zero nothing but what all pictures share.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    prefix_tokens = 1

    def __init__(self, config: OfflineConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.width = self.cls_width = config.width + APPEARANCE_CHANNELS
        self.views = (slice(0, config.width), slice(config.width, self.width))  # learned, plain
        self.grid = (config.image_size[0] // STRIDE, config.image_size[1] // STRIDE)
        self.stem = _stem(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position = nn.Parameter(torch.randn(1, self.grid[0] * self.grid[1], config.width) * 0.02)
        self.blocks = nn.ModuleList(_Block(mixer, config, self.grid) for mixer in config.mixers)
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(self.width))
        self.register_buffer("feature_std", torch.ones(self.width))
        self.cls_mean: Tensor
        self.cls_std: Tensor
        self.register_buffer("cls_mean", torch.zeros(self.width))
        self.register_buffer("cls_std", torch.ones(self.width))

    def forward(self, image_BCHW: Tensor) -> EncoderOutput:
        """Normalised pictures (B, 3, H, W) -> F_target of all tokens (B, 1 + N, D) and cls (B, D)."""
        features, cls = self._plain_outputs(image_BCHW)
        return EncoderOutput(
            (features - self.feature_mean) / self.feature_std + FEATURE_OFFSET,
            (cls - self.cls_mean) / self.cls_std + FEATURE_OFFSET,
        )

    def block_outputs(self, image_BCHW: Tensor) -> list[Tensor]:
        """The tokens (B, 1 + N, D) after each block."""
        patches_BND = self.stem(image_BCHW).flatten(2).transpose(1, 2) + self.position
        tokens_BTD = torch.cat([self.cls_token.expand(patches_BND.shape[0], -1, -1), patches_BND], dim=1)
        outputs = []
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD)
            outputs.append(tokens_BTD)
        return outputs

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Measure mean and deviation of patches and cls on batches of normalised normal pictures."""
        outputs = [self._plain_outputs(batch) for batch in batches]
        patches = torch.cat([output.features[:, 1:].flatten(0, 1) for output in outputs])
        cls = torch.cat([output.cls for output in outputs])
        for values, mean, std in (
            (patches, self.feature_mean, self.feature_std),
            (cls, self.cls_mean, self.cls_std),
        ):
            mean.copy_(values.mean(0))
            std.copy_(values.std(0, correction=0).clamp_min(LEAST_STD))

    def _plain_outputs(self, image_BCHW: Tensor) -> EncoderOutput:
        """Learned and plain features side by side, not standardised; cls takes the mean of the plain ones."""
        outputs = self.block_outputs(image_BCHW)
        seen_BNC = appearance(image_BCHW)
        mean_B1C = seen_BNC.mean(1, keepdim=True)
        learned_BTD = torch.stack([outputs[block] for block in self.config.fused_blocks]).mean(0)
        features = torch.cat([learned_BTD, torch.cat([mean_B1C, seen_BNC], dim=1)], dim=2)
        return EncoderOutput(features, torch.cat([outputs[-1][:, 0], mean_B1C[:, 0]], dim=1))


def appearance(image_BCHW: Tensor) -> Tensor:
    """What each patch looks like, nothing learned: (B, N, 20).

    Mean, maximum, minimum and deviation of brightness and two opponent colours, and mean and maximum of the
    gradients in four directions, after the picture as a whole was brought to mean 0 and deviation 1.
    """
    # The mean in two steps: one sum over all pixels loses digits that cls tokens, standardised, would show.
    centred = image_BCHW - F.avg_pool2d(image_BCHW, STRIDE).mean((1, 2, 3), keepdim=True)
    image = centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    red, green, blue = image.split(1, dim=1)
    bright = (red + green + blue) / 3
    colours = torch.cat([bright, red - green, (red + green) / 2 - blue], dim=1)
    padded = F.pad(bright, (1, 1, 0, 1), mode="replicate")
    right, below_left, below, below_right = (
        padded[:, :, :-1, 2:],
        padded[:, :, 1:, :-2],
        padded[:, :, 1:, 1:-1],
        padded[:, :, 1:, 2:],
    )
    gradients = (torch.cat([right, below_left, below, below_right], dim=1) - bright).abs()
    mean = F.avg_pool2d(colours, STRIDE)
    # Not mean(x^2) - mean(x)^2: on even patches nothing but rounding would be left of it.
    apart = colours - F.interpolate(mean, scale_factor=STRIDE, mode="nearest")
    spread = F.avg_pool2d(apart.square(), STRIDE).clamp(min=1e-8).sqrt()
    parts = [
        mean,
        F.max_pool2d(colours, STRIDE),
        -F.max_pool2d(-colours, STRIDE),
        spread,
        F.avg_pool2d(gradients, STRIDE),
        F.max_pool2d(gradients, STRIDE),
    ]
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)


def _stem(config: OfflineConfig) -> nn.Sequential:
    first, second, third = config.stem_widths
    layers = [
        *_convolution(3, first, stride=2),
        *_convolution(first, first, stride=1),
        *_convolution(first, second, stride=2),
        *_convolution(second, second, stride=1),
        *_convolution(second, third, stride=2),
        nn.Conv2d(third, config.width, kernel_size=1),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _convolution(channels: int, width: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()


class _Block(nn.Module):
    """Mix the tokens, then transform each by an MLP; both with a residual connection."""

    def __init__(self, mixer: str, config: OfflineConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        width = config.width
        self.mixer = _Attention(width, config.heads) if mixer == "attention" else _Convolution(width, grid)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.mlp_ratio * width, width),
        )

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        tokens_BTD = tokens_BTD + self.mixer(tokens_BTD)
        return tokens_BTD + self.mlp(self.norm(tokens_BTD))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(tokens_BTD)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Convolution(nn.Module):
    """A 7 x 7 depthwise convolution over the patch grid; the cls token passes by."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        patches_BDN = self.norm(tokens_BTD)[:, 1:].transpose(1, 2)
        mixed_BDN = self.depthwise(patches_BDN.unflatten(-1, self.grid)).flatten(2)
        return F.pad(mixed_BDN.transpose(1, 2), (0, 0, 1, 0))
