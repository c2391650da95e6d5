"""Synthetic defects on normal pictures: the pretext from which the offline backbone learns to see."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from training.backbones.offline.shapes import Mask, draw_shape, smooth_noise

Picture = npt.NDArray[np.float32]
Values = npt.NDArray[np.floating]

VISIBLE_CHANGE = 6.0  # grey levels of 255; a weaker change is no defect that anybody could see


class Corrupted(NamedTuple):
    """A picture (H, W, 3) in 0..255 with defects, and where they are: mask (H, W), 0 or 1."""

    picture: Picture
    mask: Mask


def vary(rng: np.random.Generator, picture: npt.NDArray[np.uint8]) -> Picture:
    """A normal picture under slightly other light, perhaps mirrored, (H, W, 3) in 0..255."""
    picture = picture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    gain, offset = np.exp(rng.normal(0, 0.15)), rng.normal(0, 8)
    return np.clip(picture.astype(np.float32) * np.float32(gain) + np.float32(offset), 0, 255)


def add_noise(rng: np.random.Generator, picture: Picture) -> Picture:
    """Sensor noise of up to 4 grey levels."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(picture + noise, 0, 255)


def corrupt(rng: np.random.Generator, picture: Picture, donor: Picture) -> Corrupted:
    """Put one to three random defects on a normal picture.

    picture, donor: (H, W, 3) in 0..255; parts of the donor, another normal picture, may be pasted in.
    """
    size = (picture.shape[0], picture.shape[1])
    damaged, mask = picture, np.zeros(size, np.float32)
    for _ in range(rng.choice([1, 1, 2, 3])):
        shape = draw_shape(rng, size)
        changed = (damaged + (_fill(rng, damaged, donor) - damaged) * shape[..., None]).astype(np.float32)
        visible = np.abs(changed - damaged).mean(-1) > VISIBLE_CHANGE
        mask = np.maximum(mask, visible & (shape > 0.1))
        damaged = changed
    return Corrupted(np.clip(damaged, 0, 255), mask)


def damage(rng: np.random.Generator, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Each of the normal pictures (n, H, W, 3) with synthetic defects: what a defect may do to a score."""
    donors = rng.integers(len(pictures), size=len(pictures))
    damaged = np.empty_like(pictures)
    for row, donor in enumerate(donors):
        whole = corrupt(rng, pictures[row].astype(np.float32), pictures[donor].astype(np.float32)).picture
        damaged[row] = whole.round()
    return damaged


def _fill(rng: np.random.Generator, picture: Picture, donor: Picture) -> Values:
    fill = _FILLS[rng.choice(len(_FILLS), p=_FILL_PROBABILITIES)]
    return fill(rng, picture, donor)


def _tone(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    step = rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(12), np.log(110)))
    return picture + step * _tint(rng, picture, 0.6)


def _gain(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    return picture * np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 1.0))


def _flat(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    return np.broadcast_to(rng.uniform(0, 255) * _tint(rng, picture, 0.2), picture.shape)


def _paste(rng: np.random.Generator, picture: Picture, donor: Picture) -> Values:
    source = picture if rng.random() < 0.5 else donor
    moved = np.roll(source, (rng.integers(source.shape[0]), rng.integers(source.shape[1])), axis=(0, 1))
    if rng.random() < 0.5:
        moved = moved[::-1] if rng.random() < 0.5 else moved[:, ::-1]
    return moved * rng.uniform(0.8, 1.25)


def _grain(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    noise = smooth_noise(rng, (picture.shape[0], picture.shape[1]), int(rng.choice([16, 32, 64])))
    return picture + noise[..., None] * rng.uniform(10, 50)


def _blur(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    sigma = rng.uniform(1, 4)
    return gaussian_filter(picture, (sigma, sigma, 0))


def _warp(rng: np.random.Generator, picture: Picture, _: Picture) -> Values:
    size = (picture.shape[0], picture.shape[1])
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    y, x = (axis + smooth_noise(rng, size, 8) * rng.uniform(2, 8) for axis in (y, x))
    channels = [map_coordinates(picture[..., c], [y, x], order=1, mode="reflect") for c in range(3)]
    return np.stack(channels, axis=-1)


def _tint(rng: np.random.Generator, picture: Picture, strength: float) -> Values:
    """Random factors around 1 per colour channel; all equal for grey pictures, whose defects are grey too."""
    grey = np.ptp(picture[:: picture.shape[0] // 8 or 1, :: picture.shape[1] // 8 or 1], axis=-1).max() < 3
    return np.ones(3) if grey or rng.random() < 0.5 else rng.uniform(1 - strength, 1 + strength, 3)


_FILLS = (_tone, _gain, _flat, _paste, _grain, _blur, _warp)
_FILL_PROBABILITIES = (0.3, 0.12, 0.08, 0.22, 0.1, 0.1, 0.08)
