"""Painters of the electronic parts of the board."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from training.demo.drawing.canvas import Canvas, Colour, Region
from training.demo.drawing.shapes import box, disc, intersection, moved, outline, repeated, union
from training.demo.factory.parts import Part

TIN: Colour = (0.80, 0.80, 0.78)
PRINT: Colour = (0.66, 0.67, 0.68)


def paint_quad_chip(canvas: Canvas, part: Part) -> None:
    """A square chip with pins on four sides."""
    region = _region(canvas, part)
    side = part.half_width - 0.02
    region.fill(repeated(box(part.half_width, 0.0055), 1, 9, 0.0185), TIN)
    region.fill(repeated(box(0.0055, part.half_height), 9, 1, 0.0185), TIN)
    _moulding(region, part, side, side)
    for row, length in enumerate((0.045, 0.034, 0.05)):
        region.fill(moved(box(length, 0.006), -0.005, -0.015 + 0.026 * row), PRINT, 0.7)


def paint_dual_chip(canvas: Canvas, part: Part) -> None:
    """A small chip with pins on two sides."""
    region = _region(canvas, part)
    region.fill(repeated(box(part.half_width, 0.008), 1, 4, 0.034), TIN)
    _moulding(region, part, part.half_width - 0.018, part.half_height)
    region.fill(moved(box(0.005, 0.04), 0.004, 0.01), PRINT, 0.7)


def paint_connector(canvas: Canvas, part: Part) -> None:
    """A plastic header with six pins."""
    region = _region(canvas, part)
    shell = box(part.half_width, part.half_height, 0.008)
    region.shadow(shell, 0.018)
    region.dome(shell, part.colour, 0.01)
    region.dome(
        box(part.half_width - 0.018, part.half_height - 0.015), _darker(part.colour), 0.01, relief=-0.4
    )
    region.fill(repeated(box(0.008, 0.012), 6, 1, 0.044), (0.83, 0.70, 0.35))


def paint_crystal(canvas: Canvas, part: Part) -> None:
    """An oblong metal can."""
    region = _region(canvas, part)
    shape = box(part.half_width, part.half_height, part.half_height)
    region.shadow(shape, 0.012)
    region.dome(shape, part.colour, 0.009, gloss=0.15)
    region.fill(box(0.5 * part.half_width, 0.15 * part.half_height), (0.35, 0.35, 0.37), 0.7)


def paint_can(canvas: Canvas, part: Part) -> None:
    """An electrolytic capacitor from above, with its dark minus segment."""
    radius = part.half_width
    region = _region(canvas, part)
    region.shadow(disc(radius), 0.022)
    region.dome(disc(radius), part.colour, 0.25 * radius, gloss=0.12)
    segment = intersection(disc(0.82 * radius), moved(box(radius, radius), 1.35 * radius, 0.0))
    region.fill(segment, (0.13, 0.13, 0.16))


def paint_resistor(canvas: Canvas, part: Part) -> None:
    """A black chip resistor with tinned ends and a printed value."""
    region = _two_ended(canvas, part)
    region.fill(box(0.35 * part.half_width, 0.35 * part.half_height), PRINT, 0.5)


def paint_ceramic(canvas: Canvas, part: Part) -> None:
    """A ceramic chip capacitor with tinned ends."""
    _two_ended(canvas, part)


def paint_diode(canvas: Canvas, part: Part) -> None:
    """A glass diode with a black band, which has no place on this board."""
    region = _region(canvas, part)
    thin = min(part.half_width, part.half_height)
    body = box(part.half_width, part.half_height, 0.9 * thin)
    region.shadow(body, 0.01)
    region.dome(body, part.colour, 0.9 * thin, gloss=0.35)
    if part.half_height > part.half_width:
        band = moved(box(thin, 0.007), 0.0, 0.45 * part.half_height)
    else:
        band = moved(box(0.007, thin), 0.45 * part.half_width, 0.0)
    region.fill(intersection(body, band), (0.06, 0.06, 0.06))


def paint_film(canvas: Canvas, part: Part) -> None:
    """A box-shaped film capacitor, which has no place on this board."""
    region = _region(canvas, part)
    shape = box(0.9 * part.half_width, 0.8 * part.half_height, 0.008)
    region.shadow(shape, 0.022)
    region.dome(shape, part.colour, 0.012, gloss=0.1)
    region.fill(box(0.5 * part.half_width, 0.12 * part.half_height), (0.95, 0.93, 0.88), 0.8)


def paint_lamp(canvas: Canvas, part: Part) -> None:
    """A coloured lamp with a round lens."""
    radius = part.half_width
    region = _region(canvas, part)
    region.shadow(disc(radius), 0.014)
    region.dome(disc(radius), part.colour, 0.9 * radius, gloss=0.5)
    region.dye(outline(disc(0.86 * radius), 0.006), (0.7, 0.7, 0.7))


def paint_screw(canvas: Canvas, part: Part) -> None:
    """A cross-head screw, turned anyhow."""
    radius = part.half_width
    region = _region(canvas, part)
    region.shadow(disc(radius), 0.01)
    region.dome(disc(radius), part.colour, 0.4 * radius, gloss=0.25)
    cross = union(box(0.62 * radius, 0.15 * radius), box(0.15 * radius, 0.62 * radius))
    region.fill(cross, (0.12, 0.12, 0.13), 0.85)


def _region(canvas: Canvas, part: Part) -> Region:
    return canvas.around(part.x, part.y, part.half_width, part.half_height, part.angle)


def _moulding(region: Region, part: Part, half_width: float, half_height: float) -> None:
    body = box(half_width, half_height, 0.006)
    region.shadow(body, 0.01)
    region.dome(body, part.colour, 0.01, gloss=0.05, relief=0.7)
    region.fill(moved(disc(0.009), 0.02 - half_width, 0.02 - half_height), (0.30, 0.30, 0.31))


def _two_ended(canvas: Canvas, part: Part) -> Region:
    region = _region(canvas, part)
    shape = box(part.half_width, part.half_height, 0.003)
    region.shadow(shape, 0.008)
    region.dome(shape, TIN, 0.006)
    if part.half_width > part.half_height:
        body = box(0.62 * part.half_width, part.half_height)
    else:
        body = box(part.half_width, 0.62 * part.half_height)
    region.dome(body, part.colour, 0.006, gloss=0.05, relief=0.5)
    return region


def _darker(colour: Colour) -> Colour:
    red, green, blue = colour
    return 0.55 * red, 0.55 * green, 0.55 * blue


PAINTERS: Mapping[str, Callable[[Canvas, Part], None]] = {
    "quad_chip": paint_quad_chip,
    "dual_chip": paint_dual_chip,
    "connector": paint_connector,
    "crystal": paint_crystal,
    "can": paint_can,
    "resistor": paint_resistor,
    "ceramic": paint_ceramic,
    "diode": paint_diode,
    "film": paint_film,
    "lamp": paint_lamp,
    "screw": paint_screw,
}
