"""Labelled heat maps, drawn with Pillow: each cell a colour and its number, with a scale beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from training.figures.lettering import LINE, text_width, write

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

LOW_COLOUR: Colour = (255, 255, 255)
HIGH_COLOUR: Colour = (8, 64, 129)
UNDEFINED: Colour = (190, 190, 190)
GRID: Colour = (140, 140, 140)

MARGIN = 16
CELL_HEIGHT = 30
LEAST_CELL_WIDTH = 64
SCALE_WIDTH = 18
SCALE_STEPS = 64


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A titled matrix of values; colours run from `low` to `high`, NaN is grey and shown as a dash."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: npt.NDArray[np.floating]
    low: float = 0.0
    high: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        scale = MARGIN + SCALE_WIDTH + text_width(f" {self.high:.2f}")
        width = self._left + len(self.columns) * self._cell_width + scale
        height = self._top + len(self.rows) * CELL_HEIGHT
        return max(width, text_width(self.title)) + 2 * MARGIN, height + 2 * MARGIN

    def cell(self, row: int, column: int) -> Box:
        """Left, top, right and bottom of a cell, in pixels; row 0 is the uppermost."""
        left = MARGIN + self._left + column * self._cell_width
        top = MARGIN + self._top + row * CELL_HEIGHT
        return left, top, left + self._cell_width, top + CELL_HEIGHT

    def colour(self, value: float) -> Colour:
        """Between LOW_COLOUR and HIGH_COLOUR, as far as the value is between `low` and `high`."""
        if math.isnan(value):
            return UNDEFINED
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        red, green, blue = (
            round(low + share * (high - low)) for low, high in zip(LOW_COLOUR, HIGH_COLOUR, strict=True)
        )
        return red, green, blue

    def draw(self) -> Image.Image:
        """The heat map on white ground, with its title, the names of rows and columns, and the scale."""
        image = Image.new("RGB", self.size, "white")
        canvas = ImageDraw.Draw(image)
        write(canvas, (MARGIN, MARGIN), self.title, anchor="la")
        for row, name in enumerate(self.rows):
            left, top, _, bottom = self.cell(row, 0)
            write(canvas, (left - 8, (top + bottom) // 2), name, anchor="rm")
        for column, name in enumerate(self.columns):
            left, top, right, _ = self.cell(0, column)
            write(canvas, ((left + right) // 2, top - LINE // 2), name, anchor="mm")
        for (row, column), value in np.ndenumerate(self.values):
            self._draw_cell(canvas, self.cell(row, column), float(value))
        self._draw_scale(canvas)
        return image

    def _draw_cell(self, canvas: ImageDraw.ImageDraw, box: Box, value: float) -> None:
        ground = self.colour(value)
        canvas.rectangle(box, fill=ground, outline=GRID)
        text = "-" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # never -0.00
        ink = "black" if sum(ground) > 3 * 128 else "white"
        write(canvas, ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2), text, anchor="mm", fill=ink)

    def _draw_scale(self, canvas: ImageDraw.ImageDraw) -> None:
        """Colours from `high` above to `low` below, right of the cells."""
        _, top, right, _ = self.cell(0, len(self.columns) - 1)
        bottom = self.cell(len(self.rows) - 1, 0)[3]
        left = right + MARGIN
        for step in range(SCALE_STEPS):
            value = self.high - (self.high - self.low) * step / (SCALE_STEPS - 1)
            upper, lower = (top + (bottom - top) * edge // SCALE_STEPS for edge in (step, step + 1))
            canvas.rectangle((left, upper, left + SCALE_WIDTH, lower), fill=self.colour(value))
        canvas.rectangle((left, top, left + SCALE_WIDTH, bottom), outline=GRID)
        write(canvas, (left + SCALE_WIDTH + 4, top), f"{self.high:.2f}", anchor="la")
        write(canvas, (left + SCALE_WIDTH + 4, bottom), f"{self.low:.2f}", anchor="ld")

    @property
    def _left(self) -> int:
        return max(map(text_width, self.rows)) + 8

    @property
    def _top(self) -> int:
        return 2 * LINE + 4

    @property
    def _cell_width(self) -> int:
        return max(LEAST_CELL_WIDTH, *(text_width(name) + 12 for name in self.columns))


class Drawing(Protocol):
    """What can be drawn."""

    def draw(self) -> Image.Image: ...


def draw_below_each_other(maps: Sequence[Drawing]) -> Image.Image:
    """All of them in one picture, the first uppermost."""
    drawn = [one.draw() for one in maps]
    size = max(one.width for one in drawn), sum(one.height for one in drawn)
    sheet = Image.new("RGB", size, "white")
    top = 0
    for one in drawn:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet
