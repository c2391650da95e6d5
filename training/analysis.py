"""`anomoe-train analyse`: what the detector sees, as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import Progress

from export.contract.category import Category
from export.contract.decision import conformal_threshold, display_score
from training.checkpoint import Checkpoint
from training.data import DataError, Sample, find_samples, load_mask, load_picture
from training.evaluation import score_samples

Tile = npt.NDArray[np.uint8]

GAP = 4
_HOT = np.array([255.0, 60.0, 0.0])
_TRUTH = np.array([60.0, 130.0, 255.0])


def draw_maps(checkpoint: Checkpoint, data: Path, output: Path, progress: Progress) -> None:
    """A sheet of test pictures, one of each family of defects in every category: picture, truth, map.

    The map is as the service answers it: where it turns orange, it is above the pixel threshold.
    Raises DataError when there are no defects to show, or of a category that is not in the checkpoint.
    """
    chosen = _one_of_each(find_samples(data))
    unknown = sorted({one.category for one in chosen} - set(checkpoint.categories))
    if not chosen or unknown:
        raise DataError(
            f"{data}: no test defects found" if not chosen else f"{data}: {unknown[0]!r} is not known"
        )
    columns = [_column(checkpoint, one, progress) for one in chosen]
    height, width = columns[0][0].shape[:2]
    sheet = Image.new("RGB", (len(columns) * (width + GAP) - GAP, 3 * (height + GAP) - GAP), "white")
    for place, tiles in enumerate(columns):
        for row, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (place * (width + GAP), row * (height + GAP)))
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, optimize=True)


def _one_of_each(samples: Sequence[Sample]) -> list[Sample]:
    """The first picture of every category and family of kinds (what stands before the underscore)."""
    families: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        if sample.is_anomalous:
            families.setdefault((sample.category, sample.kind.split("_")[0]), sample)
    return list(families.values())


def _column(checkpoint: Checkpoint, sample: Sample, progress: Progress) -> tuple[Tile, Tile, Tile]:
    spec = checkpoint.config.input
    picture = load_picture(sample.path, spec)
    raw = score_samples(checkpoint, [sample], progress).maps[0]
    shown = display_score(raw, pixel_threshold(checkpoint.categories[sample.category], checkpoint))
    heat = np.asarray(Image.fromarray(shown).resize((spec.width, spec.height), Image.Resampling.BILINEAR))
    truth = load_mask(sample, spec)
    marked = picture if truth is None else _blend(picture, truth.astype(np.float32), _TRUTH)
    return picture, marked, _blend(picture, np.clip(2 * heat - 0.5, 0, 1), _HOT)


def pixel_threshold(category: Category, checkpoint: Checkpoint) -> float:
    """The map value above which a pixel is anomalous, at the checkpoint's false-positive rate."""
    return conformal_threshold(category.peaks, checkpoint.config.calibration.alpha)


def _blend(picture: Tile, weight: npt.NDArray[np.floating], colour: npt.NDArray[np.float64]) -> Tile:
    share = 0.75 * weight[..., None]
    return (picture * (1 - share) + colour * share).astype(np.uint8)
