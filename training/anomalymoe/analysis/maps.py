"""Sheets of test pictures with their true defects and their anomaly maps, level by level (Figure 5).

Legend: L levels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from rich.progress import Progress

from export.contract.category import Category
from export.contract.decision import conformal_threshold, display_score
from export.contract.manifest import LEVELS
from training.anomalymoe.analysis.looks import look
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.head import Head
from training.data.pictures import Sample, load_mask, load_picture
from training.figures.lettering import LINE, text_width, write

Tile = npt.NDArray[np.uint8]

GAP = 4
LEGEND = (
    "blue: true defect; orange: anomaly, at half its strength where the pixel threshold of the product is met"
)
OVERVIEW = ("picture", "truth", "sum")
BY_LEVEL = ("picture", "truth", *LEVELS, "sum")
_STRENGTH = 0.75
_HOT = np.array([255.0, 60.0, 0.0])
_TRUTH = np.array([60.0, 130.0, 255.0])


@dataclass(frozen=True, eq=False)
class Column:
    """One test picture: its heading, and by name of the row the tiles (H, W, 3)."""

    category: str
    kind: str
    tiles: dict[str, Tile]


def draw_columns(checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress) -> list[Column]:
    """A column for one picture of each family of defects in every category.

    All maps are as the service answers them, on the scale of the product: the levels add up to the sum
    before they are shown. A level that was not chosen is empty.
    """
    chosen = one_of_each(samples)
    maps = raw_level_maps(checkpoint, chosen, progress)
    return [_column(checkpoint, one, levels) for one, levels in zip(chosen, maps, strict=True)]


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


def _column(checkpoint: Checkpoint, sample: Sample, maps_LHW: npt.NDArray[np.float32]) -> Column:
    spec = checkpoint.config.input
    picture, truth = load_picture(sample.path, spec), load_mask(sample, spec)
    threshold = pixel_threshold(checkpoint.categories[sample.category], checkpoint)
    tiles = {
        "picture": picture,
        "truth": mark_truth(picture, truth),
        **{level: overlay(picture, one, threshold) for level, one in zip(LEVELS, maps_LHW, strict=True)},
        "sum": overlay(picture, maps_LHW.sum(0), threshold),
    }
    return Column(sample.category, sample.kind, tiles)


@torch.no_grad()
def raw_level_maps(
    checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress
) -> list[npt.NDArray[np.float32]]:
    """The raw maps (L, Hm, Wm) of every picture, smoothed as their sum is."""
    head = Head(checkpoint.config.map_size, checkpoint.detector.encoder.grid)
    maps: list[npt.NDArray[np.float32]] = []
    for seen in look(checkpoint, samples, progress, "draw maps"):
        categories = [checkpoint.categories[one.category] for one in seen.samples]
        offset, scale = (
            torch.from_numpy(np.stack([getattr(one, field) for one in categories]))
            for field in ("error_offset", "error_scale")
        )
        levels_bLhw = checkpoint.detector.level_maps(
            checkpoint.detector.detect(seen.scene, seen.router), offset, scale
        )
        smoothed = [head(levels_bLhw[:, [level]]).map for level in range(len(LEVELS))]
        maps.extend(torch.stack(smoothed, dim=1).numpy())
    return maps


def pixel_threshold(category: Category, checkpoint: Checkpoint) -> float:
    """The map value above which a pixel is anomalous, at the checkpoint's false-positive rate."""
    return conformal_threshold(category.peaks, checkpoint.config.calibration.alpha)


def overlay(picture: Tile, raw: npt.NDArray[np.float32], threshold: float) -> Tile:
    """The picture, the more orange the higher the raw map: unmoved below a third of the threshold."""
    height, width = picture.shape[:2]
    shown = Image.fromarray(display_score(raw, threshold))
    heat = np.asarray(shown.resize((width, height), Image.Resampling.BILINEAR))
    return blend(picture, np.clip(2 * heat - 0.5, 0, 1), _HOT)


def mark_truth(picture: Tile, truth: npt.NDArray[np.bool_] | None) -> Tile:
    """The picture with its true defects blue; as it is where they are unknown."""
    return picture if truth is None else blend(picture, truth.astype(np.float32), _TRUTH)


def blend(picture: Tile, weight: npt.NDArray[np.floating], colour: npt.NDArray[np.float64]) -> Tile:
    """The picture in the colour, where the weight (H, W) is 1, and as it is where it is 0."""
    share = _STRENGTH * weight[..., None]
    return (picture * (1 - share) + colour * share).astype(np.uint8)
