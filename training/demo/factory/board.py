"""Board: a green circuit board with chips, capacitors, resistors, lamps, a connector and screws."""

from __future__ import annotations

from numpy.random import Generator

from training.demo.drawing.canvas import Canvas, Colour, shaded
from training.demo.drawing.shapes import Array, Point, box, disc, outline, repeated
from training.demo.drawing.texture import grain, smooth_noise
from training.demo.factory.board_parts import PAINTERS
from training.demo.factory.parts import Part, extra, misplaced, missing, swapped, wrong_colour, wrong_part
from training.demo.factory.product import Product

BOARD = (0.455, 0.40)
HOLES: tuple[Point, ...] = ((-0.41, -0.355), (0.41, -0.355), (-0.41, 0.355), (0.41, 0.355))
BLACK: Colour = (0.10, 0.10, 0.11)
STEEL: Colour = (0.66, 0.67, 0.70)
ALUMINIUM: Colour = (0.74, 0.75, 0.77)
TAN: Colour = (0.70, 0.55, 0.36)
RED: Colour = (0.85, 0.16, 0.12)
LIME: Colour = (0.45, 0.82, 0.25)

SLOTS = (
    Part("cpu", "quad_chip", -0.06, 0.02, 0.105, 0.105, BLACK, play=0.004, spin=0.02),
    Part("driver", "dual_chip", 0.27, -0.16, 0.05, 0.075, BLACK, play=0.004, spin=0.03),
    Part("connector", "connector", 0.0, 0.325, 0.15, 0.045, (0.90, 0.88, 0.82), play=0.004, spin=0.012),
    Part("crystal", "crystal", -0.30, 0.10, 0.045, 0.024, ALUMINIUM, play=0.004, spin=0.04),
    *(
        Part(f"can{index}", "can", x, y, radius, radius, ALUMINIUM, play=0.004, spin=0.12)
        for index, (x, y, radius) in enumerate(
            ((-0.31, -0.22, 0.052), (-0.17, -0.24, 0.052), (0.36, 0.17, 0.042))
        )
    ),
    *(
        Part(f"resistor{index}", "resistor", x, -0.19, 0.017, 0.034, BLACK, spin=0.07)
        for index, x in enumerate((-0.07, -0.01, 0.05, 0.11))
    ),
    *(
        Part(f"ceramic{index}", "ceramic", 0.16, y, 0.034, 0.017, TAN, spin=0.07)
        for index, y in enumerate((-0.02, 0.045, 0.11))
    ),
    Part("red_lamp", "lamp", 0.235, 0.32, 0.026, 0.026, RED, spin=0.0),
    Part("green_lamp", "lamp", 0.31, 0.32, 0.026, 0.026, LIME, spin=0.0),
    *(
        Part(f"screw{index}", "screw", x, y, 0.033, 0.033, STEEL, play=0.002, spin=3.1)
        for index, (x, y) in enumerate(HOLES)
    ),
)

# Copper under the mask: (x, y, half length, half height) of straight runs.
TRACES = (
    (-0.28, -0.10, 0.12, 0.004),
    (-0.30, -0.07, 0.10, 0.004),
    (-0.29, 0.18, 0.09, 0.004),
    (-0.27, 0.22, 0.12, 0.004),
    (0.02, -0.12, 0.16, 0.004),
    (0.02, -0.27, 0.22, 0.004),
    (0.25, 0.02, 0.05, 0.004),
    (0.30, 0.24, 0.10, 0.004),
    (-0.38, 0.04, 0.004, 0.14),
    (-0.22, 0.0, 0.004, 0.10),
    (0.23, 0.14, 0.004, 0.10),
    (0.36, -0.02, 0.004, 0.13),
    (0.39, -0.16, 0.004, 0.12),
    (-0.10, 0.20, 0.004, 0.07),
    (0.04, 0.21, 0.004, 0.07),
)
VIAS: tuple[Point, ...] = (
    (-0.40, -0.10), (-0.38, 0.18), (-0.20, 0.18), (0.18, -0.12), (0.24, -0.27), (-0.20, -0.10),
    (0.23, 0.24), (0.36, 0.11), (0.30, 0.02), (-0.36, 0.22), (0.39, -0.04), (-0.40, -0.28),
)  # fmt: skip


def paint_ground(canvas: Canvas, rng: Generator) -> None:
    """Bench, bare board with copper, and the footprint of every part."""
    bench = 0.52 + 0.02 * grain(rng, canvas.size)
    canvas.pixels[...] = shaded((1.03, 1.0, 0.95), bench)
    whole, board = canvas.whole(), box(*BOARD, 0.02)
    whole.shadow(board, 0.014, 0.6)
    whole.fill(board, _solder_mask(canvas, rng))
    for x, y, half_width, half_height in TRACES:
        canvas.around(x, y, half_width, half_height).dye(box(half_width, half_height), (1.5, 1.28, 1.25))
    for x, y in VIAS:
        _ring(canvas, x, y, 0.012, 0.005)
    for x, y in HOLES:
        _ring(canvas, x, y, 0.036, 0.016)
    for part in SLOTS:
        if part.kind != "screw":
            _footprint(canvas, part)


def _solder_mask(canvas: Canvas, rng: Generator) -> Array:
    brightness = 1 + float(rng.normal(0, 0.06))
    red, green, blue = rng.normal((0.07, 0.34, 0.19), 0.012).tolist()
    tone = 1 + 0.05 * smooth_noise(rng, canvas.size, 6) + 0.035 * smooth_noise(rng, canvas.size, 70)
    return shaded((red, green, blue), brightness * tone)


def _ring(canvas: Canvas, x: float, y: float, radius: float, hole: float) -> None:
    region = canvas.around(x, y, radius, radius)
    region.fill(disc(radius), (0.72, 0.60, 0.30))
    region.fill(disc(hole), (0.05, 0.06, 0.05))


def _footprint(canvas: Canvas, part: Part) -> None:
    """White outline and solder pads, seen whole only where a part is missing."""
    half_width, half_height = part.half_width, part.half_height
    region = canvas.around(part.x, part.y, half_width + 0.01, half_height + 0.01)
    region.fill(outline(box(half_width + 0.009, half_height + 0.009, 0.004), 0.004), (0.85, 0.88, 0.85), 0.75)
    if half_width > half_height:
        pads = repeated(box(0.28 * half_width, 0.8 * half_height), 2, 1, 1.4 * half_width)
    else:
        pads = repeated(box(0.8 * half_width, 0.28 * half_height), 1, 2, 1.4 * half_height)
    region.fill(pads, (0.70, 0.69, 0.64))


RESISTORS = ("resistor0", "resistor1", "resistor2", "resistor3")
CERAMICS = ("ceramic0", "ceramic1", "ceramic2")
CANS = ("can0", "can1", "can2")
LAMPS = ("red_lamp", "green_lamp")
SCREWS = ("screw0", "screw1", "screw2", "screw3")
SMALL = (*RESISTORS, *CERAMICS, *LAMPS, *CANS, "crystal")
AREA = (0.44, 0.385)

BOARD_PRODUCT = Product(
    name="board",
    slots=SLOTS,
    ground=paint_ground,
    painters=PAINTERS,
    changes={
        "component_wrong_colour": wrong_colour(
            {lamp: [(0.20, 0.35, 0.95), (0.95, 0.75, 0.15), (0.92, 0.92, 0.92)] for lamp in LAMPS}
            | {can: [(0.20, 0.22, 0.30), (0.75, 0.58, 0.25)] for can in CANS}
            | {ceramic: [(0.30, 0.40, 0.62), (0.55, 0.22, 0.20)] for ceramic in CERAMICS}
            | {"connector": [(0.15, 0.15, 0.16), (0.80, 0.42, 0.15)]}
        ),
        "component_wrong_part": wrong_part(
            {slot: [("diode", (0.78, 0.40, 0.22))] for slot in (*RESISTORS, *CERAMICS)}
            | {can: [("film", (0.75, 0.20, 0.16)), ("film", (0.85, 0.70, 0.20))] for can in CANS}
            | {"crystal": [("diode", (0.78, 0.40, 0.22))]}
        ),
        "logical_missing": missing((*SMALL, *SCREWS, "driver")),
        "logical_extra": extra((*SMALL, "screw0"), AREA),
        "logical_swapped": swapped(
            (
                LAMPS,
                ("crystal", "ceramic0"),
                ("can1", "resistor0"),
                ("can2", "green_lamp"),
                ("resistor3", "ceramic2"),
            )
        ),
        "logical_misplaced": misplaced(SMALL, AREA, (0.045, 0.08)),
    },
    area=(0.38, 0.33),
)
