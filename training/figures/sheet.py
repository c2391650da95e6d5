"""Pictures and maps side by side on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from training.data.pictures import Sample
from training.figures.lettering import LINE, text_width, write

Tile = npt.NDArray[np.uint8]

GAP = 4
LEGEND = (
    "blue: true defect; orange: anomaly, at half its strength where the pixel threshold of the product is met"
)


_STRENGTH = 0.75

_TRUTH = np.array([60.0, 130.0, 255.0])


@dataclass(frozen=True, eq=False)
class Column:
    """One test picture: its heading, and by name of the row the tiles (H, W, 3)."""

    category: str
    kind: str
    tiles: dict[str, Tile]


def one_of_each(samples: Sequence[Sample]) -> list[Sample]:
    """The first picture of every category and family of kinds (what stands before the underscore)."""
    families: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        if sample.is_anomalous:
            families.setdefault((sample.category, sample.kind.split("_")[0]), sample)
    return list(families.values())


def draw_sheet(columns: Sequence[Column], rows: Sequence[str], legend: str = LEGEND) -> Image.Image:
    """The given rows of all columns, with their names, the kinds of defects and a legend."""
    height, width = columns[0].tiles[rows[0]].shape[:2]
    headings = [text_width(text) for one in columns for text in (one.category, one.kind)]
    left, top, step = max(map(text_width, rows)) + 2 * GAP, 2 * LINE, max(width, *headings) + 2 * GAP
    size = (
        max(left + len(columns) * step, text_width(legend) + 2 * GAP),
        top + len(rows) * (height + GAP) + LINE,
    )
    sheet = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(sheet)
    for place, column in enumerate(columns):
        x = left + place * step
        write(canvas, (x, 0), column.category, anchor="la")
        write(canvas, (x, LINE), column.kind, anchor="la")
        for row, name in enumerate(rows):
            sheet.paste(Image.fromarray(column.tiles[name]), (x, top + row * (height + GAP)))
    for row, name in enumerate(rows):
        write(canvas, (left - GAP, top + row * (height + GAP) + height // 2), name, anchor="rm")
    write(canvas, (GAP, size[1] - LINE), legend, anchor="la")
    return sheet


def mark_truth(picture: Tile, truth: npt.NDArray[np.bool_] | None) -> Tile:
    """The picture with its true defects blue; as it is where they are unknown."""
    return picture if truth is None else blend(picture, truth.astype(np.float32), _TRUTH)


def blend(picture: Tile, weight: npt.NDArray[np.floating], colour: npt.NDArray[np.float64]) -> Tile:
    """The picture in the colour, where the weight (H, W) is 1, and as it is where it is 0."""
    share = _STRENGTH * weight[..., None]
    return (picture * (1 - share) + colour * share).astype(np.uint8)
