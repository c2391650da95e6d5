"""Statistics of pixels: what changes a picture moves them, and few pictures suffice to measure how far."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from export.contract.appearance import STATISTICS, appearance, fit_whitening
from export.contract.preprocess import Pixels

Change = Callable[[Pixels], Pixels]


def texture(seed: int, size: int = 64) -> Pixels:
    """A picture of one product: coloured stripes of a changing phase, with a little noise."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(size) * 0.6 + rng.uniform(0, 6))[:, None, None] * [60, 40, 20]
    light = np.array([140, 120, 90]) + rng.normal(0, 3)
    picture = wave + light + rng.normal(0, 4, (size, size, 3))
    return picture.clip(0, 255).astype(np.uint8)


def noisy(pixels: Pixels) -> Pixels:
    rng = np.random.default_rng(0)
    return (pixels + rng.normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8)


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)))


CHANGES: dict[str, Change] = {
    "dimmed": lambda one: (one * 0.5).astype(np.uint8),
    "bleached": lambda one: (128 + one * 0.5).astype(np.uint8),
    "grey": lambda one: np.repeat(one.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    "channels exchanged": lambda one: one[..., ::-1].copy(),
    "blurred": blurred,
    "noisy": noisy,
    "black": np.zeros_like,
    "white": lambda one: np.full_like(one, 255),
}


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_pictures_are_further_than_any_of_the_product(change: Change, count: int):
    known = np.stack([appearance(texture(seed)) for seed in range(count)])
    whitening = fit_whitening(known)
    others = [whitening.distance(appearance(texture(seed))) for seed in range(100, 130)]
    changed = [whitening.distance(appearance(change(texture(seed)))) for seed in range(100, 110)]
    assert min(changed) > max(others)


def test_identical_pictures_have_a_whitening():
    known = np.stack([appearance(texture(0))] * 3)
    distance = fit_whitening(known).distance(known)
    np.testing.assert_allclose(distance, 0, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3), (16, 16), (49, 33)])
def test_every_size_has_all_statistics(size: tuple[int, int]):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert appearance(pixels).shape == (STATISTICS,)
    assert np.isfinite(appearance(pixels)).all()
