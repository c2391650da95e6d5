"""A convolutional classifier pretrained on other pictures as a frozen encoder: its stages side by side.

Legend: B batch, C channels of a stage, N patches, D width, V width of cls, H W pixels, h w patch grid.
"""

from collections.abc import Iterable
from itertools import accumulate, pairwise

import timm
import torch
from pydantic import Field, model_validator
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn import functional as F

from training.backbones.base import FEATURE_OFFSET, LEAST_STD, RGB, EncoderOutput, Frozen, Size

STAGES = 5  # at strides 2, 4, 8, 16 and 32
COLOURS = 4  # numbers that tell the colours of a patch
DARK = 0.05  # of white, added to red, green and blue: what is nearly black has no colour


class ConvEncoderConfig(Frozen):
    """Which of timm's models, and its stages (0 to 4, at strides 2 to 32) that make F_target on `grid`.

    colours: the extremes of colour within each patch are part of it, too, see `colour_extremes`.
    """

    model: str = "tf_efficientnet_lite0"
    image_size: Size = (256, 256)
    stages: tuple[int, ...] = (1, 2)
    grid: Size = (32, 32)
    colours: bool = False
    mean: RGB = (0.5, 0.5, 0.5)
    std: RGB = (0.5, 0.5, 0.5)
    offset: float = Field(default=FEATURE_OFFSET, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "ConvEncoderConfig":
        if not timm.is_model(self.model):
            raise ValueError(f"model must be one that timm knows, got {self.model!r}")
        ascends = all(low < high for low, high in pairwise(self.stages))
        if not self.stages or not ascends or self.stages[0] < 0 or self.stages[-1] >= STAGES:
            raise ValueError(f"stages must ascend within 0..{STAGES - 1}, got {self.stages}")
        if any(side % 2**STAGES for side in self.image_size):
            raise ValueError(f"image_size must be a multiple of {2**STAGES}, got {self.image_size}")
        for stage in self.stages:
            sides = [side // 2 ** (stage + 1) for side in self.image_size]
            if any(max(pair) % min(pair) for pair in zip(sides, self.grid, strict=True)):
                raise ValueError(
                    f"grid must divide the {sides} of stage {stage} or be divided, got {self.grid}"
                )
        odd = [side % (2 * cells) for side, cells in zip(self.image_size, self.grid, strict=True)]
        if self.colours and any(odd):
            raise ValueError(f"colours needs patches of an even number of pixels, got grid {self.grid}")
        return self


class ConvEncoder(nn.Module):
    """F_target is the chosen stages and colours on one grid, side by side; cls the deepest stage.

    Both are standardised per channel over normal pictures and then moved by `offset`: around that common
    offset a cosine distance grows with the square of a deviation.
    """

    prefix_tokens = 0
    feature_mean: Tensor
    feature_std: Tensor
    cls_mean: Tensor
    cls_std: Tensor

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.grid, self.image_size = config.grid, config.image_size
        self.mean, self.std = config.mean, config.std
        # A getter leaves out what comes after the deepest stage in use: a third of the time, most weights.
        network = timm.create_model(
            config.model,
            pretrained=False,
            features_only=True,
            feature_cls="getter",
            out_indices=tuple(range(config.stages[-1] + 1)),
        )
        self.network = network.to(memory_format=torch.channels_last)
        info = network.feature_info
        assert isinstance(info, FeatureInfo)
        if info.reduction() != [2 ** (stage + 1) for stage in range(config.stages[-1] + 1)]:
            raise ValueError(f"model must have stages at strides 2 to 32, got {config.model!r}")
        channels: list[int] = info.channels()
        widths = [channels[stage] for stage in config.stages] + [COLOURS] * config.colours
        ends = list(accumulate(widths, initial=0))
        self.views = tuple(slice(start, end) for start, end in pairwise(ends))
        self.width, self.cls_width = ends[-1], channels[-1]
        for name, width in (("feature", self.width), ("cls", self.cls_width)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))

    def forward(self, image_BCHW: Tensor) -> EncoderOutput:
        """Normalised pictures (B, 3, H, W) -> F_target of the patches (B, N, D) and cls (B, V)."""
        features, cls = self._plain_outputs(image_BCHW)
        offset = self.config.offset
        return EncoderOutput(
            (features - self.feature_mean) / self.feature_std + offset,
            (cls - self.cls_mean) / self.cls_std + offset,
        )

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Measure mean and deviation of patches and cls on batches of normalised normal pictures."""
        patches, pooled = _Moments(), _Moments()
        for batch in batches:
            features, cls = self._plain_outputs(batch)
            patches.add(features.flatten(0, 1))
            pooled.add(cls)
        for moments, mean, std in (
            (patches, self.feature_mean, self.feature_std),
            (pooled, self.cls_mean, self.cls_std),
        ):
            mean.copy_(moments.mean)
            std.copy_(moments.std.clamp(min=LEAST_STD))

    def _plain_outputs(self, image_BCHW: Tensor) -> EncoderOutput:
        """Stages and colours on the grid and the pooled deepest stage, not standardised."""
        outputs: list[Tensor] = self.network(image_BCHW)
        chosen = [_on_grid(outputs[stage], self.grid) for stage in self.config.stages]
        if self.config.colours:
            std, mean = (image_BCHW.new_tensor(one).view(3, 1, 1) for one in (self.std, self.mean))
            chosen.append(colour_extremes(image_BCHW * std + mean, self.grid))
        # Not a mean over both axes, which adds up otherwise where a picture is alone in its batch.
        cls = F.avg_pool2d(outputs[-1], outputs[-1].shape[-2:]).flatten(1)
        return EncoderOutput(torch.cat(chosen, dim=1).flatten(2).transpose(1, 2), cls)


class _Moments:
    """Mean and standard deviation of rows that come in parts; exact enough in float64."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, rows_nD: Tensor) -> None:
        rows = rows_nD.double()
        self.count += len(rows)
        self.sum = self.sum + rows.sum(0)
        self.squares = self.squares + rows.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.sum) / self.count

    @property
    def std(self) -> Tensor:
        return (torch.as_tensor(self.squares) / self.count - self.mean.square()).clamp(min=0).sqrt()


def colour_extremes(image_BCHW: Tensor, grid: Size) -> Tensor:
    """The largest and smallest log(R / G) and log(B / sqrt(R G)) within each patch, (B, COLOURS, h, w).

    image: RGB in 0..1. A part of the wrong colour that is smaller than a patch hardly changes a mean, and
    stages of a classifier see its form above all. Ratios do not change with the light.
    """
    red, green, blue = (F.avg_pool2d(image_BCHW, 2) + DARK).log().unbind(1)
    ratios = torch.stack([red - green, blue - (red + green) / 2], 1)
    patch = ratios.shape[-2] // grid[0], ratios.shape[-1] // grid[1]
    return torch.cat([F.max_pool2d(ratios, patch), -F.max_pool2d(-ratios, patch)], 1)


def _on_grid(stage_BChw: Tensor, grid: Size) -> Tensor:
    """A stage averaged over the patches of a coarser grid, or interpolated to a finer one."""
    height, width = stage_BChw.shape[-2:]
    if height > grid[0] or width > grid[1]:
        stage_BChw = F.avg_pool2d(stage_BChw, (max(1, height // grid[0]), max(1, width // grid[1])))
    if stage_BChw.shape[-2:] == grid:
        return stage_BChw
    return F.interpolate(stage_BChw, grid, mode="bilinear", align_corners=False)
