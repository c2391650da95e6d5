"""Text in figures, in the one font that Pillow brings along."""

import math
from functools import cache

from PIL import ImageDraw, ImageFont

SIZE = 14
LINE = 20  # pixels from one line to the next


def write(
    canvas: ImageDraw.ImageDraw, place: tuple[int, int], text: str, anchor: str, fill: str = "black"
) -> None:
    """Write one line; anchor as Pillow names them, `la` left and above, `mm` in the middle."""
    canvas.text(place, text, fill=fill, font=_font(), anchor=anchor)


def text_width(text: str) -> int:
    """Width of one line in pixels."""
    return math.ceil(_font().getlength(text))


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return font
