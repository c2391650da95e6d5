from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng

from training.demo.drawing.texture import smooth_noise
from training.demo.drawing.variation import Pose, Variation


def test_pose_and_its_inverse_agree() -> None:
    pose = Pose(shift=(0.03, -0.02), angle=0.4, scale=0.8)
    x, y = pose.to_picture(0.1, -0.2)
    u, v = pose.to_product(np.array([x]), np.array([y]))
    assert (u[0], v[0]) == pytest.approx((0.1, -0.2))


def test_samples_differ_in_every_respect() -> None:
    rng = default_rng(0)
    first, second = Variation.sample(rng), Variation.sample(rng)
    assert all(getattr(first, name) != getattr(second, name) for name in vars(first))


def test_coordinates_bend_only_when_asked() -> None:
    variation = Variation.sample(default_rng(0))
    straight, _ = variation.coordinates(32, 0.0, default_rng(1))
    bent, _ = variation.coordinates(32, 0.01, default_rng(1))
    np.testing.assert_allclose(np.diff(straight, n=2, axis=1), 0, atol=1e-6)
    assert 0.002 < float(np.abs(bent - straight).mean()) < 0.02


def test_light_has_gain_gradient_vignette_and_warmth() -> None:
    grey = np.full((3, 33, 33), 0.5, np.float32)
    plain = replace(Variation.sample(default_rng(0)), gain=1.0, gradient=(0.0, 0.0), vignette=0.0, warmth=0.0)
    np.testing.assert_allclose(plain.expose(grey), 0.5, atol=1e-5)
    assert replace(plain, gain=0.8).expose(grey).mean() == pytest.approx(0.4, abs=1e-3)
    sideways = replace(plain, gradient=(0.1, 0.0)).expose(grey)[0, 16]
    assert sideways[0] < sideways[16] < sideways[-1]
    vignetted = replace(plain, vignette=0.3).expose(grey)[0]
    assert vignetted[0, 0] < vignetted[0, 16] < vignetted[16, 16]
    red, green, blue = replace(plain, warmth=0.04).expose(grey).mean(axis=(1, 2))
    assert red > green > blue


def test_noise_grows_with_the_light_and_keeps_the_mean() -> None:
    variation = Variation.sample(default_rng(0))
    dark, bright = (
        variation.develop(np.full((3, 64, 64), level, np.float32), default_rng(1)) for level in (0.1, 0.8)
    )
    assert dark.shape == (64, 64, 3)
    assert dark.std() < bright.std()
    assert bright.mean() == pytest.approx(0.8 * 255, abs=1)


def test_smooth_noise_looks_alike_at_every_size() -> None:
    small, large = (smooth_noise(default_rng(3), size, 5) for size in (32, 64))
    assert np.corrcoef(small.ravel(), large[::2, ::2].ravel())[0, 1] > 0.95
