"""Augmentations: picture and mask move together, masks stay masks, and a seed decides all."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.moeclip.augment import AugmentConfig, augment, move, movement

CERTAIN = AugmentConfig(probability=1.0)
UNCOLOURED = CERTAIN.model_copy(update={"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0})


def marked(count: int = 3, side: int = 40) -> tuple[Tensor, Tensor]:
    """Grey pictures with a white rectangle, off the middle, that their masks mark."""
    mask = torch.zeros(count, side, side)
    mask[:, 8:20, 22:34] = 1
    return 0.3 + 0.7 * mask[:, None].repeat(1, 3, 1, 1), mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_no_chance_changes_nothing() -> None:
    picture, mask = marked()
    same = augment(picture, mask, AugmentConfig(probability=0), rng())
    assert all(torch.equal(*pair) for pair in zip(same, (picture, mask), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_picture_and_mask_move_together(seed: int) -> None:
    picture, mask = marked()
    changed, moved = augment(picture, mask, UNCOLOURED, rng(seed))
    assert not torch.equal(moved, mask)
    # Bilinear edges differ from nearest ones by a pixel at most.
    agreement = ((changed[:, 0] > 0.65) == (moved > 0)).float().mean()
    assert agreement > 0.97
    assert moved.sum() > 0.5 * mask.sum()


def test_masks_stay_zero_or_one() -> None:
    _, moved = augment(*marked(), CERTAIN, rng(1))
    assert set(moved.unique().tolist()) <= {0.0, 1.0}


def test_colours_change_pictures_not_masks() -> None:
    still = {"translation": 0, "scale": 0, "shear_degrees": 0, "rotation_degrees": 0}
    picture, mask = marked()
    changed, moved = augment(picture, mask, CERTAIN.model_copy(update=still), rng(2))
    # What moves is the two flips alone.
    torch.testing.assert_close(moved, mask.flip(1, 2))
    assert not torch.allclose(changed, picture.flip(2, 3))
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_same_seed_same_bits_other_seed_others() -> None:
    first, again, other = (augment(*marked(), CERTAIN, rng(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_quarter_turn_by_hand() -> None:
    picture, mask = marked(1)
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    turned, moved = move(picture, mask, turn)
    torch.testing.assert_close(turned, picture.rot90(1, (2, 3)))
    torch.testing.assert_close(moved, mask.rot90(1, (1, 2)))


def test_each_change_comes_half_of_the_time() -> None:
    rotated = AugmentConfig(translation=0, scale=0, shear_degrees=0)
    draws = rng(5)
    matrices = np.stack([movement(rotated, draws) for _ in range(800)])
    flipped = np.linalg.det(matrices[:, :2, :2]) < 0  # one flip of two
    turned = np.abs(matrices[:, 0, 1]) > 1e-9
    assert 0.45 < flipped.mean() < 0.55
    assert 0.45 < turned.mean() < 0.55
