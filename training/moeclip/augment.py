"""Random changes of training pictures, with their masks moved alike.

Affine map, colour jitter, rotation and flips, each with its own chance (supplement B.3 of the MoECLIP paper,
which gives no ranges: those here are ours). All that moves pixels is one matrix, so that a picture is
resampled once. Legend: B batch, S side of the square pictures.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as colour

Matrix = npt.NDArray[np.float64]


class AugmentConfig(BaseModel):
    """probability: of each of affine map, colour jitter, rotation, horizontal and vertical flip.

    translation: largest shift as a share of the side. scale: largest change of size. shear_degrees and
    rotation_degrees: largest angles. brightness, contrast, saturation: largest change of the factor 1.
    hue: largest shift in turns of the colour circle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(default=0.5, ge=0, le=1)
    translation: float = Field(default=0.1, ge=0, lt=1)
    scale: float = Field(default=0.15, ge=0, lt=1)
    shear_degrees: float = Field(default=8.0, ge=0, lt=60)
    rotation_degrees: float = Field(default=30.0, ge=0, le=180)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    saturation: float = Field(default=0.2, ge=0, lt=1)
    hue: float = Field(default=0.03, ge=0, le=0.5)


def augment(
    picture_B3SS: Tensor, mask_BSS: Tensor, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Changed pictures and their masks; what is random comes from `rng` alone.

    picture_B3SS: float 0..1. mask_BSS: float, 0 or 1, and so in the result: masks are sampled nearest. What
    comes in from outside is the picture mirrored at its border, with its mask.
    """
    if config.probability == 0:
        return picture_B3SS, mask_BSS
    # Picture by picture, so that what happens to one does not depend on how many follow.
    changes = [(movement(config, rng), colour_factors(config, rng)) for _ in picture_B3SS]
    theta_B23 = torch.from_numpy(np.stack([matrix[:2] for matrix, _ in changes])).to(picture_B3SS)
    moved_B3SS, moved_BSS = move(picture_B3SS, mask_BSS, theta_B23)
    jittered = [jitter(one, factors) for one, (_, factors) in zip(moved_B3SS, changes, strict=True)]
    return torch.stack(jittered), moved_BSS


def move(picture_B3SS: Tensor, mask_BSS: Tensor, theta_B23: Tensor) -> tuple[Tensor, Tensor]:
    """Sample pictures (bilinear) and masks (nearest) at the places that the matrices give.

    theta_B23: from a place in the result to one in the picture, both in -1..1.
    """
    grid = F.affine_grid(theta_B23, list(picture_B3SS.shape), align_corners=False)
    mirrored = {"padding_mode": "reflection", "align_corners": False}
    moved_B3SS = F.grid_sample(picture_B3SS, grid, mode="bilinear", **mirrored)
    return moved_B3SS, F.grid_sample(mask_BSS[:, None], grid, mode="nearest", **mirrored)[:, 0]


def movement(config: AugmentConfig, rng: np.random.Generator) -> Matrix:
    """A random product of affine map, rotation and flips, (3, 3), of coordinates in -1..1."""
    matrix = np.eye(3)
    if rng.random() < config.probability:
        shift = rng.uniform(-2 * config.translation, 2 * config.translation, 2)
        shear = np.tan(np.radians(rng.uniform(-config.shear_degrees, config.shear_degrees, 2)))
        size = rng.uniform(1 - config.scale, 1 + config.scale)
        linear = np.array([[1.0, shear[0]], [shear[1], 1.0]]) / size
        matrix = np.vstack([np.column_stack([linear, shift]), [0.0, 0.0, 1.0]])
    if rng.random() < config.probability:
        angle = math.radians(rng.uniform(-config.rotation_degrees, config.rotation_degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    flips = np.where(rng.random(2) < config.probability, -1.0, 1.0)
    return np.diag([*flips, 1.0]) @ matrix


def colour_factors(config: AugmentConfig, rng: np.random.Generator) -> tuple[float, ...] | None:
    """Factors of brightness, contrast and saturation, and a shift of the hue; None for no change."""
    if rng.random() >= config.probability:
        return None
    spans = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    centres = np.array([1.0, 1.0, 1.0, 0.0])
    return tuple((centres + spans * rng.uniform(-1, 1, 4)).tolist())


def jitter(picture_3SS: Tensor, factors: tuple[float, ...] | None) -> Tensor:
    """A picture (3, S, S) in other colours, 0..1."""
    if factors is None:
        return picture_3SS
    brightness, contrast, saturation, hue = factors
    changed = colour.adjust_brightness(picture_3SS, brightness)
    changed = colour.adjust_contrast(changed, contrast)
    changed = colour.adjust_saturation(changed, saturation)
    return colour.adjust_hue(changed, hue)
