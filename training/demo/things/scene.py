"""Draw one thing, whole or damaged, on some ground: two pictures of one seed differ by the damage alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from scipy.ndimage import binary_closing

from training.demo.drawing.canvas import Canvas, Colour, Region, shaded
from training.demo.drawing.shapes import Array, Point
from training.demo.drawing.texture import smooth_noise
from training.demo.drawing.variation import Pose, Variation
from training.demo.things.damages import AT_THE_EDGE, DAMAGES, Body
from training.demo.things.forms import FORMS, SURFACES, Form
from training.demo.things.materials import MATERIALS, Material

Picture: TypeAlias = NDArray[np.uint8]

SIZE = 96
LOOKS, FORM, POSE, GROUND, TEXTURE, DAMAGE, SENSOR = range(7)  # keys of the random streams

# Differences in 0..1 of the light on the sensor: changed at all, and plain to an inspector.
CHANGED = 0.05
PLAIN = 0.15
LEAST_PLAIN_AREA = 12 / 96**2
LEAST_CHANGED_AREA = 20 / 96**2
ATTEMPTS = 24

GROUNDS: tuple[Colour, ...] = (
    (0.85, 0.85, 0.84), (0.6, 0.62, 0.64), (0.32, 0.33, 0.35), (0.14, 0.14, 0.15),
    (0.62, 0.5, 0.36), (0.3, 0.42, 0.5), (0.42, 0.5, 0.4), (0.72, 0.66, 0.56),
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """What is in a picture: keys of the tables of forms and materials."""

    form: str
    material: str

    @property
    def name(self) -> str:
        """As a user would say it: "wooden box"."""
        return f"{MATERIALS[self.material].word} {self.form}"


@dataclass(frozen=True)
class Drawn:
    """A picture (H, W, 3), the mask (H, W) of what is damaged, bool, and the word for the colour."""

    picture: Picture
    mask: NDArray[np.bool_]
    colour: str


def draw(thing: Thing, seed: int, damage: str | None = None, size: int = SIZE) -> Drawn:
    """One picture of a thing; the seed decides all but the damage.

    Raises ValueError for an unknown damage, or a seed that no visible damage fits.
    """
    if damage is not None:
        return draw_twins(thing, seed, damage, size)[1]
    scene = _Scene(thing, seed, size)
    return _whole(scene, scene.exposed())


def draw_twins(thing: Thing, seed: int, damage: str, size: int = SIZE) -> tuple[Drawn, Drawn]:
    """The same thing whole and damaged. Raises ValueError as `draw`."""
    if damage not in DAMAGES:
        raise ValueError(f"damage {damage!r} is not one of {', '.join(DAMAGES)}")
    scene = _Scene(thing, seed, size)
    whole = scene.exposed()
    for attempt in range(ATTEMPTS):
        exposed = scene.exposed(damage, attempt)
        difference = np.abs(np.clip(exposed, 0, 1) - np.clip(whole, 0, 1)).max(axis=0)
        mask = difference > CHANGED
        if (difference > PLAIN).mean() > LEAST_PLAIN_AREA and mask.mean() > LEAST_CHANGED_AREA:
            return _whole(scene, whole), Drawn(scene.developed(exposed), _closed(mask), scene.colour)
    raise ValueError(f"no visible {damage} on a {thing.name} with seed {seed} in {ATTEMPTS} attempts")


def _whole(scene: _Scene, exposed: Array) -> Drawn:
    return Drawn(scene.developed(exposed), np.zeros(exposed.shape[1:], np.bool_), scene.colour)


class _Scene:
    """All that the seed decides."""

    def __init__(self, thing: Thing, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        looks = self._stream(LOOKS)
        self.material: Material = MATERIALS[thing.material]
        self.is_surface = thing.form in SURFACES
        self.colour = str(looks.choice(list(self.material.colours)))
        self.shade = cast(
            "Colour",
            tuple((np.array(self.material.colours[self.colour]) * looks.normal(1, 0.03, 3)).tolist()),
        )
        self.form: Form = FORMS[thing.form](self._stream(FORM))
        self.variation = _variation(self._stream(POSE), self.form.turns and not self.is_surface)

    def exposed(self, damage: str | None = None, attempt: int = 0) -> Array:
        """The lit, noise-free picture (3, size, size)."""
        u, v = self.variation.coordinates(self.size, 0.0, self._stream(GROUND))
        u, v = (np.ascontiguousarray(axis, np.float32) for axis in (u, v))
        canvas = Canvas(
            np.empty((3, self.size, self.size), np.float32), u, v, self.variation.pose, self.variation.light
        )
        ground = canvas.whole()
        _paint_ground(ground, self._stream(GROUND))
        if not self.is_surface:
            ground.shadow(self.form.outline, 0.035, 0.4)
        body = self._body(ground)
        if damage is not None:
            rng = self._stream(DAMAGE, attempt)
            DAMAGES[damage](body, _place(body, rng, at_the_edge=damage in AT_THE_EDGE), rng)
        cover = np.clip(0.5 - body.distance / body.pixel, 0, 1)
        ground.blend(cover * self.material.opacity, body.colours)
        return self.variation.expose(canvas.pixels)

    def developed(self, exposed: Array) -> Picture:
        """With sensor noise, (size, size, 3)."""
        return self.variation.develop(exposed, self._stream(SENSOR))

    def _body(self, ground: Region) -> Body:
        layer = Region(np.empty_like(ground.pixels), ground.u, ground.v, ground.pixel, ground.light, 0.0)
        distance = self.form.outline(ground.u, ground.v).astype(np.float32)
        _model(layer, distance, self.shade, self.material)
        for shape, tone in self.form.details:
            layer.dye(shape, (tone, tone, tone))
        layer.pixels[...] *= self.material.texture(ground.u, ground.v, self._stream(TEXTURE))
        return Body(layer.pixels, distance, ground.u, ground.v, ground.light, ground.pixel)

    def _stream(self, *key: int) -> Generator:
        return default_rng(SeedSequence(self.seed, spawn_key=key))


def _model(layer: Region, distance: Array, colour: Colour, material: Material) -> None:
    """A body whose edge bends away, lit from the side, as `Region.dome` but without an edge."""
    slope = np.clip(1 + distance / 0.06, 0, 1)
    rise_y, rise_x = np.gradient(distance, layer.pixel)
    x, y = rise_x * slope, rise_y * slope
    shine = (x - 0.5 * layer.light[0]) ** 2 + (y - 0.5 * layer.light[1]) ** 2
    tone = 1 + material.relief * (x * layer.light[0] + y * layer.light[1])
    layer.pixels[...] = shaded(colour, tone) + material.gloss * np.exp(-shine / 0.05) * (slope > 0)


def _paint_ground(region: Region, rng: Generator) -> None:
    colour = GROUNDS[int(rng.integers(len(GROUNDS)))]
    size = region.u.shape[0]
    fine, coarse = rng.uniform(0, 0.06), rng.uniform(0.01, 0.06)
    tone = 1 + coarse * smooth_noise(rng, size, 4) + fine * smooth_noise(rng, size, 40)
    if rng.random() < 0.3:
        tone += 0.06 * np.sin(2 * math.pi * float(rng.uniform(6, 16)) * (region.u + 0.2 * region.v))
    region.pixels[...] = shaded(colour, tone)


def _place(body: Body, rng: Generator, *, at_the_edge: bool) -> Point:
    """A point of the body that is in the picture: inside, or where it ends if there is an edge."""
    depth = -body.distance
    inside = depth > 0.03
    if at_the_edge and depth.min() < 0:
        inside = np.abs(depth) < 0.02
    margin = body.u.shape[0] // 16
    inside[:margin], inside[-margin:], inside[:, :margin], inside[:, -margin:] = False, False, False, False
    rows, columns = np.nonzero(inside if inside.any() else depth >= depth.max() - 1e-6)
    chosen = int(rng.integers(len(rows)))
    return float(body.u[rows[chosen], columns[chosen]]), float(body.v[rows[chosen], columns[chosen]])


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(binary_closing(np.pad(mask, 2), np.ones((3, 3))), np.bool_)[2:-2, 2:-2]


def _variation(rng: Generator, turns: bool) -> Variation:
    direction = float(rng.uniform(-2.9, -1.8))
    return Variation(
        pose=Pose(
            shift=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
            angle=float(rng.uniform(-math.pi, math.pi) if turns else rng.uniform(-0.2, 0.2)),
            scale=float(rng.uniform(0.95, 1.2)),
        ),
        light=(math.cos(direction), math.sin(direction)),
        gain=float(rng.uniform(0.85, 1.12)),
        gradient=(float(rng.uniform(-0.14, 0.14)), float(rng.uniform(-0.14, 0.14))),
        vignette=float(rng.uniform(0.05, 0.3)),
        warmth=float(rng.uniform(-0.05, 0.05)),
        blur=float(rng.uniform(0.4, 0.9)),
        noise=float(rng.uniform(0.006, 0.02)),
    )
