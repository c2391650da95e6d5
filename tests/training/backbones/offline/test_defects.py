"""Synthetic defects: where they are, what they leave alone, and that they can be repeated."""

import numpy as np
import pytest

from tests.training.tiny_run import Pictures, draw
from training.backbones.offline.defects import VISIBLE_CHANGE, Corrupted, Picture, add_noise, corrupt, vary

SEEDS = range(40)


def floating(product: str, seed: int) -> Picture:
    return draw("disc" if product == "disc" else "square", seed)[0].astype(np.float32)


def damaged(seed: int) -> Corrupted:
    return corrupt(np.random.default_rng(seed), floating("disc", seed), floating("disc", seed + 1))


def change(seed: int) -> Picture:
    """Mean change of each pixel (H, W) over the channels."""
    return np.abs(damaged(seed).picture - floating("disc", seed)).mean(-1)


def test_shapes_and_ranges() -> None:
    for seed in SEEDS:
        picture, mask = damaged(seed)
        assert picture.shape == (48, 48, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 255
        assert mask.dtype == np.float32
        assert set(np.unique(mask)) <= {0, 1}


def test_hardly_anything_visible_changes_outside_the_mask() -> None:
    """What does lies on soft edges, where a defect is blended in by a tenth at most."""
    for seed in SEEDS:
        outside = change(seed)[damaged(seed).mask == 0]
        assert (outside > VISIBLE_CHANGE).mean() < 0.03
        assert outside.max() <= 3 * 0.1 * 255


def test_the_mask_marks_what_changed() -> None:
    inside = np.concatenate([change(seed)[damaged(seed).mask == 1] for seed in SEEDS])
    outside = np.concatenate([change(seed)[damaged(seed).mask == 0] for seed in SEEDS])
    assert np.median(inside) > 2 * VISIBLE_CHANGE
    assert np.median(outside) == 0


def test_nearly_every_picture_gets_a_defect() -> None:
    assert sum(damaged(seed).mask.any() for seed in SEEDS) > 0.8 * len(SEEDS)


def test_the_same_seed_gives_the_same_defect() -> None:
    for seed in SEEDS:
        first, second = damaged(seed), damaged(seed)
        np.testing.assert_array_equal(first.picture, second.picture)
        np.testing.assert_array_equal(first.mask, second.mask)


def test_picture_and_donor_stay_as_they_are() -> None:
    picture, donor = floating("disc", 0), floating("square", 1)
    for seed in SEEDS:
        corrupt(np.random.default_rng(seed), picture, donor)
    np.testing.assert_array_equal(picture, floating("disc", 0))
    np.testing.assert_array_equal(donor, floating("square", 1))


def test_grey_pictures_get_grey_defects() -> None:
    grey, donor = (np.repeat(floating("disc", seed)[..., :1], 3, axis=-1) for seed in (0, 1))
    for seed in SEEDS:
        picture = corrupt(np.random.default_rng(seed), grey, donor).picture
        assert np.ptp(picture, axis=-1).max() < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_other_light_keeps_the_order_of_the_pixel_values(seed: int) -> None:
    """Whether the picture is mirrored or not."""
    picture = draw("square", 0)[0]
    varied = vary(np.random.default_rng(seed), picture)
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 255
    assert not np.array_equal(varied, picture)
    upright = min(
        (varied[::y, ::x] for y in (-1, 1) for x in (-1, 1)), key=lambda one: disorder(picture, one)
    )
    assert disorder(picture, upright) == 0


def disorder(picture: Pictures, varied: Picture) -> int:
    """How often a brighter pixel became a darker one."""
    return int((np.diff(varied.ravel()[picture.ravel().argsort()]) < 0).sum())


def test_noise_is_small_and_centred() -> None:
    grey = np.full((48, 48, 3), 128, np.float32)
    for seed in SEEDS:
        noise = add_noise(np.random.default_rng(seed), grey) - grey
        assert abs(noise.mean()) < 0.3
        assert 0 < noise.std() < 4.2
