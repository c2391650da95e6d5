"""Parts of a product, their natural tolerances, and the changes that make a defect of them.

A change returns a new tuple of parts and leaves all others as they were, so that a picture with and
without the defect differ in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from numpy.random import Generator

from training.demo.drawing.canvas import Colour
from training.demo.drawing.shapes import Point


@dataclass(frozen=True)
class Part:
    """One part: what it is, where, how large (half extents), and how far it may naturally vary.

    play: largest natural offset; spin: largest natural turn in radians.
    """

    slot: str
    kind: str
    x: float
    y: float
    half_width: float
    half_height: float
    colour: Colour
    angle: float = 0.0
    play: float = 0.003
    spin: float = 0.03


Parts: TypeAlias = tuple[Part, ...]
Change: TypeAlias = Callable[[Parts, Generator], Parts]


def assembled(slots: Parts, rng: Generator) -> Parts:
    """A good product: every part in its slot, within tolerance, in a slightly different shade."""
    return tuple(_varied(part, rng) for part in slots)


def missing(slots: Sequence[str]) -> Change:
    """One of the parts is not there."""

    def change(parts: Parts, rng: Generator) -> Parts:
        victim = _pick(parts, slots, rng)
        return tuple(part for part in parts if part is not victim)

    return change


def extra(slots: Sequence[str], area: Point) -> Change:
    """A second piece of one of the parts lies where nothing belongs; `area`: half extents to stay in."""

    def change(parts: Parts, rng: Generator) -> Parts:
        model = _pick(parts, slots, rng)
        places = [
            (float(rng.uniform(-1, 1)) * area[0], float(rng.uniform(-1, 1)) * area[1]) for _ in range(96)
        ]
        return (*parts, _freest(model, places, parts, area))

    return change


def misplaced(slots: Sequence[str], area: Point, distance: Point) -> Change:
    """One of the parts sits `distance` (least, most) away from its place."""

    def change(parts: Parts, rng: Generator) -> Parts:
        victim = _pick(parts, slots, rng)
        others = tuple(part for part in parts if part is not victim)
        places = [_beside(victim, distance, rng) for _ in range(48)]
        return _replaced(parts, victim, _freest(victim, places, others, area))

    return change


def swapped(pairs: Sequence[tuple[str, str]]) -> Change:
    """Two different parts sit in each other's place."""

    def change(parts: Parts, rng: Generator) -> Parts:
        names = pairs[int(rng.integers(len(pairs)))]
        first, second = (next(part for part in parts if part.slot == name) for name in names)
        parts = _replaced(parts, first, replace(first, x=second.x, y=second.y))
        return _replaced(parts, second, replace(second, x=first.x, y=first.y))

    return change


def wrong_colour(colours: Mapping[str, Sequence[Colour]]) -> Change:
    """One of the parts has a colour that it never has: slot -> wrong colours."""

    def change(parts: Parts, rng: Generator) -> Parts:
        victim = _pick(parts, tuple(colours), rng)
        choices = colours[victim.slot]
        return _replaced(parts, victim, replace(victim, colour=choices[int(rng.integers(len(choices)))]))

    return change


def wrong_part(kinds: Mapping[str, Sequence[tuple[str, Colour]]]) -> Change:
    """A part of another kind sits in the slot: slot -> (kind, colour) choices."""

    def change(parts: Parts, rng: Generator) -> Parts:
        victim = _pick(parts, tuple(kinds), rng)
        kind, colour = kinds[victim.slot][int(rng.integers(len(kinds[victim.slot])))]
        return _replaced(parts, victim, replace(victim, kind=kind, colour=colour))

    return change


def _varied(part: Part, rng: Generator) -> Part:
    shade = rng.normal(1.0, 0.03) + rng.normal(0.0, 0.012, 3)
    red, green, blue = (float(channel * factor) for channel, factor in zip(part.colour, shade, strict=True))
    return replace(
        part,
        x=part.x + float(rng.uniform(-1, 1)) * part.play,
        y=part.y + float(rng.uniform(-1, 1)) * part.play,
        angle=part.angle + float(rng.uniform(-1, 1)) * part.spin,
        colour=(red, green, blue),
    )


def _pick(parts: Parts, slots: Sequence[str], rng: Generator) -> Part:
    slot = slots[int(rng.integers(len(slots)))]
    return next(part for part in parts if part.slot == slot)


def _replaced(parts: Parts, old: Part, new: Part) -> Parts:
    return tuple(new if part is old else part for part in parts)


def _beside(part: Part, distance: Point, rng: Generator) -> Point:
    angle, length = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(*distance))
    return part.x + length * math.cos(angle), part.y + length * math.sin(angle)


def _freest(part: Part, places: Sequence[Point], others: Parts, area: Point) -> Part:
    """The part at the first place that touches no other part, or at the one that overlaps least."""
    candidates = [replace(part, x=x, y=y) for x, y in places]
    gaps = [
        min(_inside(candidate, area), *(_gap(candidate, other) for other in others))
        for candidate in candidates
    ]
    free = next((index for index, gap in enumerate(gaps) if gap > 0.005), gaps.index(max(gaps)))
    return candidates[free]


def _gap(part: Part, other: Part) -> float:
    across = abs(part.x - other.x) - part.half_width - other.half_width
    along = abs(part.y - other.y) - part.half_height - other.half_height
    return max(across, along)


def _inside(part: Part, area: Point) -> float:
    return min(area[0] - abs(part.x) - part.half_width, area[1] - abs(part.y) - part.half_height)
