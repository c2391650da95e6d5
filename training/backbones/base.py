"""What every frozen encoder gives, whatever it is."""

from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor

RGB = tuple[float, float, float]

LEAST_STD = 0.02  # a channel that hardly varies, as colour in grey pictures, must not be blown up
FEATURE_OFFSET = 3.0  # standard deviations


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Size = tuple[int, int]


class EncoderOutput(NamedTuple):
    """features (B, T, F): F_target of all tokens, prefix first, fuse groups side by side; cls (B, V)."""

    features: Tensor
    cls: Tensor


class Encoder(Protocol):
    """What the detector reads of an encoder; any nn.Module with these attributes will do.

    width: D. cls_width: V. grid: patches (h, w). prefix_tokens: tokens before the patches.
    image_size: (H, W) pixels.
    mean, std: of the RGB picture in 0..1. views: the kinds of channels that D is made of.
    """

    width: int
    cls_width: int
    grid: Size
    prefix_tokens: int
    image_size: Size
    mean: RGB
    std: RGB
    views: tuple[slice, ...]

    def __call__(self, image: Tensor, /) -> EncoderOutput:
        """image: normalised (B, 3, H, W)."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> object: ...

    def train(self, mode: bool = True) -> object: ...


def top_mean(errors: Tensor) -> Tensor:
    """Mean of the top 1 % over the last axis: what one picture's errors (..., N) come to, (...)."""
    count = max(1, errors.shape[-1] // 100)
    return errors.topk(count, dim=-1).values.mean(-1)
