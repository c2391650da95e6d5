"""Sheets of test pictures with their true defects and their anomaly maps, level by level (Figure 5).

Legend: L levels, H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import Progress

from export.contract.category import Category
from export.contract.decision import conformal_threshold, display_score
from export.contract.manifest import LEVELS
from training.anomalymoe.analysis.looks import look
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.head import Head
from training.data.pictures import Sample, load_mask, load_picture
from training.figures.sheet import Column, Tile, blend, mark_truth, one_of_each

OVERVIEW = ("picture", "truth", "sum")
BY_LEVEL = ("picture", "truth", *LEVELS, "sum")
_HOT = np.array([255.0, 60.0, 0.0])


def draw_columns(checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress) -> list[Column]:
    """A column for one picture of each family of defects in every category.

    All maps are as the service answers them, on the scale of the product: the levels add up to the sum
    before they are shown. A level that was not chosen is empty.
    """
    chosen = one_of_each(samples)
    maps = raw_level_maps(checkpoint, chosen, progress)
    return [_column(checkpoint, one, levels) for one, levels in zip(chosen, maps, strict=True)]


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
            torch.from_numpy(np.stack([getattr(one, field) for one in categories])).to(seen.scene.image)
            for field in ("error_offset", "error_scale")
        )
        levels_bLhw = checkpoint.detector.level_maps(
            checkpoint.detector.detect(seen.scene, seen.router), offset, scale
        ).cpu()
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
