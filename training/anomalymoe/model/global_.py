"""Global experts: convolutional autoencoders from picture to features, for wrong arrangements.

Legend: B batch, D width, T tokens, F features, h w patch grid, H W pixels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from training.anomalymoe.model.config import ConvConfig, GlobalConfig
from training.anomalymoe.model.expert import ExpertOutput, target_patches
from training.backbones.base import Size


class GlobalExpert(nn.Module):
    """An autoencoder of F_target through a compact code and, if configured, a student of the autoencoder.

    The error is the squared distance (Eq. 8) as a mean over channels: 1 / D of the paper's sum, which keeps
    it of the size of the other levels' cosine distances.
    """

    def __init__(self, width: int, grid: tuple[int, int], prefix_tokens: int, config: GlobalConfig) -> None:
        super().__init__()
        self.width, self.grid, self.prefix_tokens = width, grid, prefix_tokens
        self.scoring = config.scoring
        self.autoencoder = conv_network(config.autoencoder, width, grid)
        self.student = conv_network(config.student, width, grid) if config.student else None

    def forward(self, image_BCHW: Tensor, features_BTF: Tensor) -> ExpertOutput:
        """Distance to F_target, or to the student when the student scores; the loss trains both networks."""
        rebuilt_BDhw = self.autoencoder(image_BCHW)
        target_error = squared_distance(rebuilt_BDhw, self._target(features_BTF))
        loss, error = target_error.mean((1, 2)), target_error
        if self.student is not None:
            student_BDhw = self.student(image_BCHW)
            loss = loss + squared_distance(rebuilt_BDhw.detach(), student_BDhw).mean((1, 2))
            if self.scoring == "student":
                error = squared_distance(rebuilt_BDhw, student_BDhw)
        return ExpertOutput(error, loss, rebuilt_BDhw.mean((2, 3)))

    def _target(self, features_BTF: Tensor) -> Tensor:
        patches_BND = target_patches(features_BTF, self.width, self.prefix_tokens)
        return patches_BND.transpose(1, 2).unflatten(2, self.grid)


def check_network(name: str, stages: Sequence[ConvConfig], image_size: Size, grid: Size) -> None:
    """Raises ValueError for a network that does not lead from the picture to the patch grid."""
    size = image_size
    for number, stage in enumerate(stages):
        if stage.upsample is not None:
            size = grid if stage.upsample == "grid" else (stage.upsample, stage.upsample)
        height, width = (
            ((side + 2 * stage.padding - stage.kernel) // stage.stride + 1) // stage.pool for side in size
        )
        if min(height, width) < 1:
            raise ValueError(
                f"global_.{name}: stage {number} gets {size[0]} x {size[1]} of a picture of "
                f"{image_size[0]} x {image_size[1]}, too small for kernel {stage.kernel}, pool {stage.pool}"
            )
        size = (height, width)
    if stages and size != grid:
        raise ValueError(f"global_.{name}: must end on the patch grid {grid}, got {size}")


def conv_network(stages: Sequence[ConvConfig], width: int, grid: tuple[int, int]) -> nn.Sequential:
    """The stages as one flat network from RGB; `width` channels and the patch grid are filled in."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in stages:
        out_channels = width if stage.channels == "width" else stage.channels
        if stage.upsample is not None:
            size = grid if stage.upsample == "grid" else (stage.upsample, stage.upsample)
            layers.append(nn.Upsample(size, mode="bilinear"))
        layers.append(nn.Conv2d(channels, out_channels, stage.kernel, stage.stride, stage.padding))
        layers.extend(_after_convolution(stage))
        channels = out_channels
    return nn.Sequential(*layers)


def _after_convolution(stage: ConvConfig) -> list[nn.Module]:
    layers: list[nn.Module] = []
    if stage.relu:
        layers.append(nn.ReLU())
    if stage.dropout:
        layers.append(nn.Dropout(stage.dropout))
    if stage.pool > 1:
        layers.append(nn.AvgPool2d(stage.pool))
    return layers


def squared_distance(a_BDhw: Tensor, b_BDhw: Tensor) -> Tensor:
    """Mean over the channels of the squared difference, (B, h, w)."""
    return (a_BDhw - b_BDhw).square().mean(1)
