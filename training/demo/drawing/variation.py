"""What differs between two good pictures: pose, light, camera. The parts differ in `parts.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from training.demo.drawing.shapes import Array, Point
from training.demo.drawing.texture import smooth_noise


@dataclass(frozen=True)
class Pose:
    """Place of the product in the picture: shift in picture sides, angle in radians."""

    shift: Point
    angle: float
    scale: float

    def to_picture(self, u: float, v: float) -> Point:
        """Product coordinates -> (x, y) in picture sides from the upper left corner."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x = 0.5 + self.shift[0] + self.scale * (u * cos - v * sin)
        y = 0.5 + self.shift[1] + self.scale * (u * sin + v * cos)
        return x, y

    def to_product(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The inverse of `to_picture`, for grids."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = x - 0.5 - self.shift[0], y - 0.5 - self.shift[1]
        return (x * cos + y * sin) / self.scale, (y * cos - x * sin) / self.scale


@dataclass(frozen=True)
class Variation:
    """Pose, light and camera of one picture."""

    pose: Pose
    light: Point
    gain: float
    gradient: Point
    vignette: float
    warmth: float
    blur: float
    noise: float

    @classmethod
    def sample(cls, rng: Generator) -> Variation:
        """Draw what changes from picture to picture on a real inspection bench."""
        direction = float(rng.uniform(-2.7, -2.0))
        return cls(
            pose=Pose(
                shift=(float(rng.uniform(-0.015, 0.015)), float(rng.uniform(-0.015, 0.015))),
                angle=math.radians(float(rng.uniform(-2.5, 2.5))),
                scale=float(rng.uniform(0.97, 1.02)),
            ),
            light=(math.cos(direction), math.sin(direction)),
            gain=float(rng.uniform(0.85, 1.1)),
            gradient=(float(rng.uniform(-0.14, 0.14)), float(rng.uniform(-0.14, 0.14))),
            vignette=float(rng.uniform(0.05, 0.35)),
            warmth=float(rng.uniform(-0.045, 0.045)),
            blur=float(rng.uniform(0.35, 0.7)),
            noise=float(rng.uniform(0.008, 0.018)),
        )

    def coordinates(self, size: int, warp: float, rng: Generator) -> tuple[Array, Array]:
        """Product coordinates (size, size) of every pixel; `warp` bends soft goods by about that length."""
        line = (np.arange(size, dtype=np.float32) + 0.5) / size
        u, v = self.pose.to_product(line[None, :], line[:, None])
        if warp:
            u = u + warp * smooth_noise(rng, size, 5)
            v = v + warp * smooth_noise(rng, size, 5)
        return u, v

    def expose(self, pixels: Array) -> Array:
        """Light the scene and blur it a little: (3, H, W), still without noise."""
        size = pixels.shape[1]
        line = np.linspace(-1, 1, size, dtype=np.float32)
        radius = line[None, :] ** 2 + line[:, None] ** 2
        gradient = 1 + self.gradient[0] * line[None, :] + self.gradient[1] * line[:, None]
        illumination = self.gain * gradient * (1 - 0.5 * self.vignette * radius)
        tint = np.array([1 + self.warmth, 1, 1 - self.warmth], np.float32)
        lit = pixels * illumination * tint[:, None, None]
        # The blur is in pixels at 256, so that larger pictures are not sharper than the lens.
        sigma = self.blur * size / 256
        return gaussian_filter(lit, (0, sigma, sigma), truncate=2.5)

    def develop(self, exposed: Array, rng: Generator) -> NDArray[np.uint8]:
        """Add sensor noise that grows with the light, and round: (3, H, W) -> uint8 (H, W, 3)."""
        noise = rng.standard_normal(exposed.shape, dtype=np.float32) * self.noise
        noisy = exposed + noise * np.sqrt(0.3 + np.clip(exposed, 0, 1))
        rounded = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(rounded.transpose(1, 2, 0))
