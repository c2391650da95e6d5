"""Blister: a foil card with two rows of five pockets, each with its own kind of pill."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from training.demo.drawing.canvas import Canvas, Colour, shaded
from training.demo.drawing.shapes import Array, box, disc, intersection, moved, outline
from training.demo.drawing.texture import grain, smooth_noise
from training.demo.factory.parts import Part, extra, misplaced, missing, swapped, wrong_colour, wrong_part
from training.demo.factory.product import Product

CARD = (0.455, 0.34)
COLUMNS = (-0.35, -0.175, 0.0, 0.175, 0.35)
ROWS = (-0.185, 0.185)
POCKET = 0.074
YELLOW: Colour = (0.90, 0.76, 0.26)
BLUE: Colour = (0.36, 0.55, 0.80)
GREEN: Colour = (0.25, 0.56, 0.42)
IVORY: Colour = (0.93, 0.90, 0.82)
# Kind, colour and half extents of each pill type.
PILLS: dict[str, tuple[str, Colour, float, float]] = {
    "yellow": ("tablet", YELLOW, 0.05, 0.05),
    "blue": ("tablet", BLUE, 0.041, 0.041),
    "capsule": ("capsule", GREEN, 0.06, 0.028),
}
ARRANGEMENT = (
    ("yellow", "yellow", "capsule", "blue", "blue"),
    ("blue", "blue", "capsule", "yellow", "yellow"),
)


def _pill(row: int, column: int) -> Part:
    pill = ARRANGEMENT[row][column]
    kind, colour, half_width, half_height = PILLS[pill]
    spin = 0.6 if kind == "capsule" else 3.1
    slot = f"{pill}-{row}-{column}"
    return Part(
        slot, kind, COLUMNS[column], ROWS[row], half_width, half_height, colour, play=0.009, spin=spin
    )


SLOTS = tuple(_pill(row, column) for row in range(2) for column in range(5))
NAMES = tuple(part.slot for part in SLOTS)
TABLETS = tuple(part.slot for part in SLOTS if part.kind == "tablet")


def paint_ground(canvas: Canvas, rng: Generator) -> None:
    """Bench, foil card with its embossing and sheen, print, and ten empty pockets."""
    bench = 0.24 + 0.012 * grain(rng, canvas.size)
    canvas.pixels[...] = shaded((0.95, 1.0, 1.1), bench)
    whole, card = canvas.whole(), box(*CARD, 0.035)
    whole.shadow(card, 0.014, 0.55)
    whole.fill(card, _foil(canvas, rng))
    whole.dye(outline(box(CARD[0] - 0.012, CARD[1] - 0.012, 0.025), 0.004), (0.8, 0.8, 0.82))
    _print(canvas)
    for x in COLUMNS:
        for y in ROWS:
            _pocket(canvas, x, y)


def _foil(canvas: Canvas, rng: Generator) -> Array:
    emboss = np.sin(2 * math.pi * 26 * (canvas.u + canvas.v)) * np.sin(
        2 * math.pi * 26 * (canvas.u - canvas.v)
    )
    slant, phase = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0, 2 * math.pi))
    sheen = np.sin(5 * (canvas.u + slant * canvas.v) + phase)
    crumple = smooth_noise(rng, canvas.size, 9)
    tone = 0.68 + 0.025 * emboss + 0.05 * sheen + 0.02 * crumple
    return shaded((0.98, 1.0, 1.03), tone)


def _print(canvas: Canvas) -> None:
    region = canvas.around(0.0, 0.0, 0.36, 0.06)
    ink = (0.16, 0.22, 0.42)
    x = -0.30
    for index, width in enumerate((0.024, 0.014, 0.03, 0.018, 0.026, 0.012, 0.02)):
        region.fill(moved(box(width, 0.011, 0.004), x + width, -0.03), ink, 0.85)
        region.fill(moved(box(0.7 * width, 0.006, 0.002), x + width, 0.015 + 0.004 * (index % 2)), ink, 0.6)
        x += 2 * width + 0.016
    region.fill(moved(disc(0.034), 0.28, 0.0), (0.72, 0.22, 0.20), 0.85)
    region.fill(moved(box(0.02, 0.006), 0.28, 0.0), IVORY)
    region.fill(moved(box(0.006, 0.02), 0.28, 0.0), IVORY)


def _pocket(canvas: Canvas, x: float, y: float) -> None:
    region = canvas.around(x, y, POCKET, POCKET)
    region.dome(disc(POCKET), (0.60, 0.61, 0.63), 0.014, relief=0.35)
    region.dome(disc(POCKET - 0.013), (0.54, 0.55, 0.57), 0.02, relief=-0.25)


def paint_tablet(canvas: Canvas, part: Part) -> None:
    """A round pressed tablet with a score line."""
    radius = part.half_width
    region = canvas.around(part.x, part.y, radius, radius, part.angle)
    region.shadow(disc(radius), 0.016)
    region.dome(disc(radius), part.colour, 0.35 * radius, gloss=0.18)
    groove = intersection(box(0.005, 2 * radius), disc(0.85 * radius))
    region.dye(groove, (0.72, 0.72, 0.72))


def paint_capsule(canvas: Canvas, part: Part) -> None:
    """A two-coloured capsule."""
    region = canvas.around(part.x, part.y, part.half_width, part.half_height, part.angle)
    body = box(part.half_width, part.half_height, part.half_height)
    cap = intersection(body, moved(box(part.half_width, 1.0), part.half_width, 0.0))
    region.shadow(body, 0.016)
    region.dome(body, IVORY, 0.9 * part.half_height, gloss=0.25)
    region.fill(cap, shaded(part.colour, 1 + 0.35 * region.light[1] * region.v / part.half_height))
    glint = moved(box(0.65 * part.half_width, 0.1 * part.half_height), 0.0, -0.35 * part.half_height)
    region.fill(glint, (1.0, 1.0, 1.0), 0.45)


def paint_caplet(canvas: Canvas, part: Part) -> None:
    """An oblong tablet, which belongs to another medicine."""
    long, short = 1.25 * part.half_width, 0.6 * part.half_width
    region = canvas.around(part.x, part.y, long, short, part.angle)
    body = box(long, short, short)
    region.shadow(body, 0.016)
    region.dome(body, part.colour, 0.6 * short, gloss=0.18)
    region.dye(box(0.005, short), (0.72, 0.72, 0.72))


def _unequal_pairs() -> tuple[tuple[str, str], ...]:
    kinds = {part.slot: part.slot.partition("-")[0] for part in SLOTS}
    return tuple((first, second) for first in NAMES for second in NAMES if kinds[first] < kinds[second])


BLISTER = Product(
    name="blister",
    slots=SLOTS,
    ground=paint_ground,
    painters={"tablet": paint_tablet, "capsule": paint_capsule, "caplet": paint_caplet},
    changes={
        "component_wrong_colour": wrong_colour(
            {slot: [(0.80, 0.36, 0.42), (0.45, 0.66, 0.36), (0.86, 0.84, 0.80)] for slot in TABLETS}
            | {slot: [(0.76, 0.26, 0.22), (0.20, 0.28, 0.62)] for slot in NAMES if slot not in TABLETS}
        ),
        "component_wrong_part": wrong_part(
            {
                slot: [("caplet", YELLOW if slot.startswith("yellow") else BLUE), ("caplet", IVORY)]
                for slot in TABLETS
            }
        ),
        "logical_missing": missing(NAMES),
        "logical_extra": extra(NAMES, CARD),
        "logical_swapped": swapped(_unequal_pairs()),
        "logical_misplaced": misplaced(NAMES, CARD, (0.05, 0.085)),
    },
    area=(0.36, 0.25),
)
