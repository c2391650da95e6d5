"""The table of materials: the word for it, its colours, its texture, and how it shines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from training.demo.drawing.canvas import Colour
from training.demo.drawing.shapes import Array
from training.demo.drawing.texture import smooth_noise

Texture = Callable[[Array, Array, Generator], Array]


@dataclass(frozen=True)
class Material:
    """texture: brightness around 1 at coordinates (h, w); gloss and relief as in `Region.dome`."""

    word: str
    colours: Mapping[str, Colour]
    texture: Texture
    gloss: float
    relief: float
    opacity: float = 1.0


def _brushed(_: Array, v: Array, rng: Generator) -> Array:
    lines = rng.normal(0, 0.05, 256).astype(np.float32)
    return 1 + lines[(v * 140 + 128).astype(np.int32) & 255] + 0.05 * _cloud(v, rng, 3)


def _grained(u: Array, v: Array, rng: Generator) -> Array:
    rings = u * float(rng.uniform(14, 24)) + 0.5 * _cloud(v, rng, 3) + 2.0 * v
    return 1 + 0.1 * np.sin(2 * np.pi * rings) + 0.05 * _cloud(v, rng, 40)


def _smooth(_: Array, v: Array, rng: Generator) -> Array:
    return 1 + 0.03 * _cloud(v, rng, 3)


def _woven(u: Array, v: Array, rng: Generator) -> Array:
    threads = np.sin(2 * np.pi * 24 * u) * np.sin(2 * np.pi * 24 * v)
    return 1 + 0.12 * threads + 0.05 * _cloud(v, rng, 5)


def _pored(_: Array, v: Array, rng: Generator) -> Array:
    return 1 - 0.12 * np.abs(_cloud(v, rng, 26)) + 0.05 * _cloud(v, rng, 4)


def _speckled(_: Array, v: Array, rng: Generator) -> Array:
    return 1 + 0.09 * _cloud(v, rng, 60) + 0.07 * _cloud(v, rng, 9)


def _fibrous(_: Array, v: Array, rng: Generator) -> Array:
    return 1 + 0.035 * _cloud(v, rng, 50) + 0.03 * _cloud(v, rng, 6)


def _cloud(like: Array, rng: Generator, cells: int) -> Array:
    return smooth_noise(rng, like.shape[0], cells)


METALS = {
    "silver": (0.72, 0.73, 0.75),
    "copper": (0.75, 0.45, 0.3),
    "brass": (0.76, 0.62, 0.3),
    "grey": (0.45, 0.46, 0.48),
}
WOODS = {"pale": (0.82, 0.68, 0.48), "brown": (0.58, 0.38, 0.22), "dark": (0.36, 0.23, 0.15)}
GLASSES = {
    "clear": (0.78, 0.86, 0.87),
    "green": (0.25, 0.6, 0.35),
    "blue": (0.25, 0.42, 0.72),
    "amber": (0.66, 0.38, 0.12),
}
GLAZES = {
    "white": (0.9, 0.89, 0.86),
    "blue": (0.25, 0.4, 0.68),
    "green": (0.38, 0.58, 0.45),
    "red": (0.68, 0.24, 0.18),
}
PLASTICS = {
    "white": (0.88, 0.88, 0.88), "red": (0.82, 0.15, 0.13), "yellow": (0.9, 0.76, 0.15),
    "blue": (0.14, 0.35, 0.78), "green": (0.15, 0.6, 0.3), "orange": (0.9, 0.48, 0.12),
    "purple": (0.5, 0.25, 0.62),
}  # fmt: skip
CLOTHS = {
    "white": (0.85, 0.83, 0.78),
    "red": (0.68, 0.2, 0.22),
    "blue": (0.25, 0.34, 0.58),
    "green": (0.35, 0.5, 0.32),
}
LEATHERS = {"brown": (0.48, 0.29, 0.17), "black": (0.2, 0.18, 0.18), "red": (0.55, 0.16, 0.14)}
STONES = {"grey": (0.56, 0.56, 0.55), "beige": (0.74, 0.67, 0.56), "black": (0.25, 0.25, 0.27)}
RUBBERS = {"black": (0.2, 0.2, 0.21), "grey": (0.42, 0.42, 0.44), "red": (0.6, 0.18, 0.15)}
PAPERS = {"brown": (0.7, 0.55, 0.38), "white": (0.9, 0.89, 0.87), "pink": (0.87, 0.62, 0.66)}

MATERIALS: Mapping[str, Material] = {
    "metal": Material("metal", METALS, _brushed, gloss=0.35, relief=0.4),
    "wood": Material("wooden", WOODS, _grained, gloss=0.0, relief=0.3),
    "glass": Material("glass", GLASSES, _smooth, gloss=0.5, relief=0.35, opacity=0.7),
    "ceramic": Material("ceramic", GLAZES, _smooth, gloss=0.4, relief=0.3),
    "plastic": Material("plastic", PLASTICS, _smooth, gloss=0.15, relief=0.3),
    "fabric": Material("fabric", CLOTHS, _woven, gloss=0.0, relief=0.2),
    "leather": Material("leather", LEATHERS, _pored, gloss=0.08, relief=0.3),
    "stone": Material("stone", STONES, _speckled, gloss=0.0, relief=0.25),
    "rubber": Material("rubber", RUBBERS, _fibrous, gloss=0.05, relief=0.3),
    "paper": Material("paper", PAPERS, _fibrous, gloss=0.0, relief=0.15),
}
