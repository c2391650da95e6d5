"""The table of forms: what each thing looks like in outline, with the lines and fields drawn on it.

Coordinates are in picture sides around the middle of the thing; a thing is about 0.7 long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.random import Generator

from training.demo.drawing.shapes import (
    Shape,
    box,
    disc,
    intersection,
    moved,
    outline,
    polygon,
    repeated,
    stroke,
    union,
)
from training.demo.things.outlines import everywhere, profile, star, stretched, toothed, turned, without

LINE = 0.016


@dataclass(frozen=True)
class Form:
    """An outline and what is drawn on it: (shape, brightness factor). `turns` = seen at any angle."""

    outline: Shape
    details: tuple[tuple[Shape, float], ...] = ()
    turns: bool = False


Build = Callable[[Generator], Form]


def _near(rng: Generator, value: float) -> float:
    return value * float(rng.uniform(0.85, 1.15))


def _level(v: float, half_width: float = 0.5) -> Shape:
    return moved(box(half_width, LINE / 2), 0, v)


def _bottle(rng: Generator) -> Form:
    neck, body, shoulder = _near(rng, 0.055), _near(rng, 0.14), float(rng.uniform(-0.16, -0.04))
    side = profile([(-0.36, neck), (-0.22, neck), (shoulder, body), (0.33, body), (0.36, 0.9 * body)])
    return Form(side, ((_level(-0.29), 0.6), (moved(box(body, 0.09), 0, 0.14), 1.25)))


def _vase(rng: Generator) -> Form:
    belly, foot = _near(rng, 0.19), _near(rng, 0.1)
    points = [
        (-0.35, 0.11),
        (-0.28, 0.07),
        (-0.18, 0.08),
        (0.02, belly),
        (0.12, belly),
        (0.3, foot),
        (0.35, foot),
    ]
    return Form(profile(points), ((_level(-0.24), 0.75), (_level(0.05), 0.8)))


def _jar(rng: Generator) -> Form:
    body = _near(rng, 0.21)
    side = profile(
        [(-0.3, 0.85 * body), (-0.19, 0.85 * body), (-0.14, body), (0.29, body), (0.32, 0.9 * body)]
    )
    return Form(side, ((moved(box(0.4, 0.055), 0, -0.25), 0.65),))


def _cup(rng: Generator) -> Form:
    top = _near(rng, 0.19)
    side = profile([(-0.24, top), (0.2, 0.85 * top), (0.24, 0.75 * top)])
    handle = moved(outline(stretched(disc(0.09), 1.4), 0.045), top, -0.02)
    return Form(moved(union(side, handle), -0.05, 0), ((_level(-0.2), 0.8),))


def _bowl(rng: Generator) -> Form:
    cut = moved(box(0.5, 0.5), 0, 0.44)
    foot = moved(box(0.1, 0.03), 0, 0.25)
    half = intersection(disc(_near(rng, 0.3)), cut)
    return Form(moved(union(half, foot), 0, -0.12), ((_level(-0.14), 0.75),))


def _plate(rng: Generator) -> Form:
    return Form(disc(0.34), ((outline(disc(_near(rng, 0.22)), LINE), 0.75),), turns=True)


def _lid(rng: Generator) -> Form:
    knob = disc(_near(rng, 0.075))
    return Form(
        disc(0.32), ((outline(disc(0.28), LINE), 0.8), (knob, 1.25), (outline(knob, LINE), 0.6)), turns=True
    )


def _coin(rng: Generator) -> Form:
    emblem = polygon(int(rng.integers(3, 7)), 0.1)
    return Form(disc(0.31), ((outline(disc(0.26), LINE), 0.7), (emblem, 0.75)), turns=True)


def _button(rng: Generator) -> Form:
    holes = repeated(disc(0.04), 2, 2, _near(rng, 0.17))
    return Form(without(disc(0.31), holes), ((outline(disc(0.25), LINE), 0.75),), turns=True)


def _washer(rng: Generator) -> Form:
    return Form(without(disc(0.33), disc(_near(rng, 0.155))), turns=True)


def _ring(rng: Generator) -> Form:
    return Form(without(disc(0.33), disc(_near(rng, 0.22))), turns=True)


def _nut(rng: Generator) -> Form:
    bore = _near(rng, 0.14)
    return Form(without(polygon(6, 0.29), disc(bore)), ((outline(disc(bore + 0.04), LINE), 0.7),), turns=True)


def _gear(rng: Generator) -> Form:
    teeth = toothed(0.29, 0.045, int(rng.integers(8, 15)), 3.0)
    return Form(without(teeth, disc(_near(rng, 0.09))), ((outline(disc(0.19), LINE), 0.75),), turns=True)


def _wheel(rng: Generator) -> Form:
    count = int(rng.integers(3, 6))
    spokes = [turned(box(0.29, 0.03), math.pi * spoke / count) for spoke in range(count)]
    rim = without(disc(0.34), disc(_near(rng, 0.25)))
    return Form(union(rim, disc(0.08), *spokes), ((disc(0.03), 0.4),), turns=True)


def _star(rng: Generator) -> Form:
    return Form(star(0.38, int(rng.integers(5, 7))), turns=True)


def _flower(rng: Generator) -> Form:
    centre = disc(_near(rng, 0.09))
    return Form(toothed(0.27, 0.07, int(rng.integers(5, 8)), 1.0), ((centre, 0.65),), turns=True)


def _leaf(rng: Generator) -> Form:
    offset = _near(rng, 0.2)
    blade = intersection(moved(disc(0.4), offset, 0), moved(disc(0.4), -offset, 0))
    stem = stroke([(0, -0.33), (0, 0.4)], [0.012, 0.026])
    veins = union(
        *(
            stroke([(0, v), (side * 0.2, v - 0.14)], [0.012, 0.008])
            for v in (-0.05, 0.1, 0.25)
            for side in (-1, 1)
        )
    )
    return Form(union(blade, stem), ((stem, 0.75), (veins, 0.82)), turns=True)


def _key(rng: Generator) -> Form:
    bow = without(moved(disc(0.13), 0, -0.22), moved(disc(_near(rng, 0.06)), 0, -0.22))
    bits = [moved(box(0.05, 0.025), 0.07, v) for v in (0.22, float(rng.uniform(0.28, 0.33)))]
    return Form(union(bow, moved(box(0.035, 0.24), 0, 0.13), *bits), turns=True)


def _screw(rng: Generator) -> Form:
    shaft = _near(rng, 0.065)
    side = profile([(-0.35, 0.14), (-0.27, 0.15), (-0.22, shaft), (0.25, shaft), (0.36, 0.008)])
    thread = turned(repeated(box(0.3, 0.008), 1, 13, 0.035), 0.25)
    return Form(
        side, ((intersection(moved(thread, 0, 0.1), moved(box(0.2, 0.22), 0, 0.08)), 0.65),), turns=True
    )


def _bar(rng: Generator) -> Form:
    return Form(box(0.36, _near(rng, 0.1), 0.02), turns=True)


def _box(rng: Generator) -> Form:
    width, height = _near(rng, 0.27), _near(rng, 0.27)
    return Form(box(width, height, 0.02), ((outline(box(width - 0.05, height - 0.05), LINE), 0.75),))


def _can(rng: Generator) -> Form:
    width = _near(rng, 0.19)
    band = moved(box(width, 0.1), 0, _near(rng, 0.06))
    return Form(box(width, 0.33, 0.05), ((_level(-0.26), 0.65), (_level(0.27), 0.65), (band, 1.25)))


def _capsule(rng: Generator) -> Form:
    width = _near(rng, 0.13)
    return Form(box(0.34, width, width), ((moved(box(0.3, 0.3), 0.3, 0), 0.7),), turns=True)


def _pill(rng: Generator) -> Form:
    return Form(stretched(disc(0.28), _near(rng, 0.75)), ((box(0.012, 0.14), 0.7),), turns=True)


def _spoon(rng: Generator) -> Form:
    bowl = moved(stretched(disc(_near(rng, 0.12)), 1.4), 0, -0.2)
    return Form(
        union(bowl, profile([(-0.1, 0.03), (0.3, 0.035), (0.37, 0.05)])),
        ((moved(stretched(disc(0.08), 1.4), 0, -0.2), 0.8),),
        turns=True,
    )


def _comb(rng: Generator) -> Form:
    pitch = _near(rng, 0.062)
    teeth = moved(repeated(box(0.016, 0.14, 0.01), 11, 1, pitch), 0, 0.06)
    return Form(union(moved(box(5.4 * pitch, 0.07, 0.02), 0, -0.12), teeth), turns=True)


def _bracket(rng: Generator) -> Form:
    arm = _near(rng, 0.075)
    angle = union(moved(box(arm, 0.3), -0.22, 0), moved(box(0.3, arm), 0.0, 0.23))
    holes = (moved(disc(0.035), -0.22, -0.2), moved(disc(0.035), 0.2, 0.23))
    return Form(without(angle, *holes), turns=True)


def _hook(rng: Generator) -> Form:
    arc = intersection(
        outline(disc(0.18), _near(rng, 0.09)),
        moved(union(box(0.4, 0.2), moved(box(0.2, 0.4), -0.2, 0)), 0, 0.2),
    )
    eye = moved(outline(disc(0.07), 0.05), -0.18, -0.27)
    return Form(moved(union(arc, moved(box(0.042, 0.12), -0.18, -0.1), eye), 0.03, 0.08), turns=True)


def _heart(rng: Generator) -> Form:
    lobe = _near(rng, 0.16)
    square = moved(turned(box(0.163, 0.163), math.pi / 4), 0, 0.03)
    return Form(union(moved(disc(lobe), -0.115, -0.085), moved(disc(lobe), 0.115, -0.085), square))


def _cross(rng: Generator) -> Form:
    arm = _near(rng, 0.095)
    return Form(union(box(0.34, arm, 0.01), box(arm, 0.34, 0.01)), turns=True)


def _frame(rng: Generator) -> Form:
    width, height, rim = _near(rng, 0.3), _near(rng, 0.3), _near(rng, 0.09)
    inner = box(width - rim, height - rim)
    return Form(
        without(box(width, height, 0.01), inner),
        ((outline(box(width - rim / 2, height - rim / 2), LINE), 0.75),),
    )


def _hammer(rng: Generator) -> Form:
    head = moved(box(_near(rng, 0.2), 0.085, 0.02), 0, -0.24)
    return Form(union(head, moved(box(0.04, 0.3, 0.02), 0, 0.07)), ((head, 0.7),), turns=True)


def _link(rng: Generator) -> Form:
    width = _near(rng, 0.15)
    return Form(outline(box(0.29, width, width), 0.09), turns=True)


def _crescent(rng: Generator) -> Form:
    return Form(moved(without(disc(0.33), moved(disc(0.27), _near(rng, 0.17), 0)), 0.08, 0), turns=True)


def _arrow(rng: Generator) -> Form:
    head = moved(polygon(3, 0.11), 0.15, 0)
    return Form(union(head, moved(box(0.22, _near(rng, 0.06)), -0.14, 0)), turns=True)


def _brick(rng: Generator) -> Form:
    holes = repeated(box(0.045, 0.06, 0.01), 3, 1, _near(rng, 0.2))
    return Form(box(0.37, 0.19, 0.01), ((holes, 0.5),), turns=True)


def _bell(rng: Generator) -> Form:
    rim = _near(rng, 0.23)
    side = profile([(-0.27, 0.04), (-0.22, 0.11), (0.05, 0.15), (0.17, rim), (0.23, rim)])
    clapper = moved(disc(0.055), 0, 0.25)
    return Form(union(side, clapper, moved(outline(disc(0.05), 0.03), 0, -0.3)), ((_level(0.16), 0.7),))


def _tile(rng: Generator) -> Form:
    joint = outline(box(_near(rng, 0.42), _near(rng, 0.42)), 0.02)
    return Form(everywhere, ((joint, 0.7),))


def _board(rng: Generator) -> Form:
    joints = repeated(box(1.0, 0.008), 1, 3, _near(rng, 0.3))
    return Form(everywhere, ((joints, 0.6),))


def _panel(rng: Generator) -> Form:
    rivets = repeated(disc(0.025), 2, 2, _near(rng, 0.72))
    return Form(everywhere, ((rivets, 0.65), (_level(_near(rng, 0.3), 1.0), 0.75)))


def _sheet(_: Generator) -> Form:
    return Form(everywhere)


SURFACES = ("tile", "board", "panel", "sheet")

FORMS: Mapping[str, Build] = {
    "arrow": _arrow, "bar": _bar, "bell": _bell, "board": _board, "bottle": _bottle, "bowl": _bowl,
    "box": _box, "bracket": _bracket, "brick": _brick, "button": _button, "can": _can, "capsule": _capsule,
    "coin": _coin, "comb": _comb, "crescent": _crescent, "cross": _cross, "cup": _cup,
    "flower": _flower, "frame": _frame,
    "gear": _gear, "hammer": _hammer, "heart": _heart, "hook": _hook, "jar": _jar, "key": _key, "leaf": _leaf,
    "lid": _lid, "link": _link, "nut": _nut, "panel": _panel, "pill": _pill, "plate": _plate, "ring": _ring,
    "screw": _screw, "sheet": _sheet, "spoon": _spoon, "star": _star, "tile": _tile, "vase": _vase,
    "washer": _washer, "wheel": _wheel,
}  # fmt: skip
