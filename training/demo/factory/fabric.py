"""Fabric: woven cloth with three stripes, a sewn label, a stitched seam, two brass and two steel rivets."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from training.demo.drawing.canvas import Canvas, Colour, Region, shaded
from training.demo.drawing.shapes import box, disc, moved, outline, polygon, repeated
from training.demo.drawing.texture import smooth_noise, threads
from training.demo.factory.parts import Part, extra, misplaced, missing, swapped, wrong_colour, wrong_part
from training.demo.factory.product import Product

CLOTH: Colour = (0.74, 0.69, 0.60)
CREAM: Colour = (0.92, 0.89, 0.82)
BRASS: Colour = (0.74, 0.58, 0.30)
STEEL: Colour = (0.66, 0.67, 0.70)
THREADS_PER_SIDE = 54
SEAM = 0.34


def _stripe(slot: str, x: float, half_width: float, dye: Colour) -> Part:
    return Part(slot, "stripe", x, 0.0, half_width, 0.8, dye, play=0.004, spin=0.006)


def _rivet(index: int) -> Part:
    metal, x = (BRASS if index < 2 else STEEL), -0.36 + 0.24 * index
    return Part(f"rivet{index}", "rivet", x, SEAM, 0.026, 0.026, metal, play=0.004, spin=3.1)


SLOTS = (
    _stripe("red", -0.33, 0.03, (0.72, 0.24, 0.20)),
    _stripe("ochre", -0.23, 0.022, (0.95, 0.72, 0.28)),
    _stripe("navy", -0.13, 0.03, (0.28, 0.34, 0.50)),
    Part("label", "label", 0.17, -0.12, 0.125, 0.08, CREAM, play=0.008, spin=0.04),
    *(_rivet(index) for index in range(4)),
)


def paint_ground(canvas: Canvas, rng: Generator) -> None:
    """Plain weave with uneven threads, soft folds, and a double seam."""
    warp, weft = canvas.u * THREADS_PER_SIDE, canvas.v * THREADS_PER_SIDE
    over = np.sin(math.pi * warp) * np.sin(math.pi * weft)
    ridge = (1 + over) * np.cos(2 * math.pi * warp) + (1 - over) * np.cos(2 * math.pi * weft)
    shades = threads(rng, warp, 0.035) + threads(rng, weft, 0.035)
    folds = 0.05 * smooth_noise(rng, canvas.size, 4) + 0.025 * smooth_noise(rng, canvas.size, 30)
    tone = 1 + 0.055 * ridge + shades + folds
    canvas.pixels[...] = shaded(CLOTH, tone)
    for offset in (-0.045, 0.045):
        _seam(canvas, SEAM + offset)


def _seam(canvas: Canvas, y: float) -> None:
    region = canvas.around(0.0, y, 0.6, 0.012)
    region.dye(box(0.7, 0.006, 0.004), (0.7, 0.7, 0.7), softness=0.01)
    along = (region.u + 5.0) * 26
    dash = (np.abs(along - np.floor(along) - 0.5) - 0.34) / 26
    stitch = np.maximum(dash, np.abs(region.v) - 0.0045)
    region.fill(lambda _u, _v: stitch, (0.86, 0.77, 0.55), 0.9)


def paint_stripe(canvas: Canvas, part: Part) -> None:
    """A dyed band: the weave stays visible."""
    region = canvas.around(part.x, part.y, part.half_width, part.half_height, part.angle)
    region.dye(box(part.half_width, part.half_height), part.colour, softness=0.006)


def paint_label(canvas: Canvas, part: Part) -> None:
    """The label with its peak emblem."""
    region = _label_cloth(canvas, part)
    ink = (0.16, 0.24, 0.34)
    region.fill(moved(polygon(3, 0.026), -0.062, 0.012), ink, 0.9)
    region.fill(moved(disc(0.011), -0.033, -0.032), (0.75, 0.35, 0.2), 0.9)
    _lettering(region, ink)


def paint_ring_label(canvas: Canvas, part: Part) -> None:
    """The label of another brand: same cloth, a ring as emblem."""
    region = _label_cloth(canvas, part)
    ink = (0.16, 0.24, 0.34)
    region.fill(outline(moved(disc(0.032), -0.062, 0.0), 0.014), ink, 0.9)
    region.fill(moved(disc(0.011), -0.062, 0.0), (0.75, 0.35, 0.2), 0.9)
    _lettering(region, ink)


def paint_rivet(canvas: Canvas, part: Part) -> None:
    """A pressed metal rivet."""
    region = canvas.around(part.x, part.y, part.half_width, part.half_height)
    region.shadow(disc(part.half_width), 0.009)
    region.dome(disc(part.half_width), part.colour, 0.012, gloss=0.25, relief=0.5)
    region.dome(disc(0.5 * part.half_width), part.colour, 0.008, relief=-0.5)


def paint_button(canvas: Canvas, part: Part) -> None:
    """A sewn button with four holes, which belongs to another garment."""
    radius = part.half_width
    region = canvas.around(part.x, part.y, radius, radius, part.angle)
    region.shadow(disc(radius), 0.009)
    region.dome(disc(radius), part.colour, 0.008, gloss=0.1)
    region.fill(repeated(disc(0.17 * radius), 2, 2, 0.64 * radius), (0.08, 0.07, 0.07))


def _label_cloth(canvas: Canvas, part: Part) -> Region:
    region = canvas.around(part.x, part.y, part.half_width, part.half_height, part.angle)
    shape = box(part.half_width, part.half_height, 0.008)
    region.shadow(shape, 0.008, 0.45)
    ribs = 1 + 0.03 * np.sin(2 * math.pi * region.v * 70)
    region.fill(shape, shaded(part.colour, ribs))
    border = outline(box(part.half_width - 0.012, part.half_height - 0.012, 0.004), 0.005)
    region.fill(border, (0.55, 0.3, 0.2), 0.8)
    return region


def _lettering(region: Region, ink: Colour) -> None:
    for row, widths in enumerate(((0.018, 0.012, 0.02), (0.01, 0.022, 0.014))):
        x = -0.016
        for width in widths:
            region.fill(moved(box(width, 0.009, 0.003), x + width, -0.022 + 0.038 * row), ink, 0.85)
            x += 2 * width + 0.008


RIVETS = ("rivet0", "rivet1", "rivet2", "rivet3")
MOVABLE = ("label", *RIVETS)
AREA = (0.42, 0.42)

FABRIC = Product(
    name="fabric",
    slots=SLOTS,
    ground=paint_ground,
    painters={
        "stripe": paint_stripe,
        "label": paint_label,
        "ring_label": paint_ring_label,
        "rivet": paint_rivet,
        "button": paint_button,
    },
    changes={
        "component_wrong_colour": wrong_colour(
            {
                "label": [(0.62, 0.75, 0.55), (0.85, 0.62, 0.60), (0.55, 0.68, 0.82)],
                "ochre": [(0.42, 0.75, 0.45), (0.72, 0.42, 0.75)],
                "navy": [(0.30, 0.55, 0.36), (0.50, 0.28, 0.42)],
                **{rivet: [(0.18, 0.17, 0.17), (0.62, 0.26, 0.20)] for rivet in RIVETS},
            }
        ),
        "component_wrong_part": wrong_part(
            {
                "label": [("ring_label", CREAM)],
                **{
                    rivet: [("button", (0.32, 0.20, 0.13)), ("button", (0.88, 0.86, 0.80))]
                    for rivet in RIVETS
                },
            }
        ),
        "logical_missing": missing(("label", "red", "ochre", "navy", *RIVETS)),
        "logical_extra": extra(MOVABLE, AREA),
        "logical_swapped": swapped(
            (
                ("red", "ochre"),
                ("ochre", "navy"),
                ("rivet0", "rivet2"),
                ("rivet1", "rivet2"),
                ("rivet1", "rivet3"),
            )
        ),
        "logical_misplaced": misplaced(MOVABLE, AREA, (0.06, 0.12)),
    },
    area=(0.36, 0.36),
    warp=0.004,
)
