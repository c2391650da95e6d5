"""`anomoe-train segment`: the components of pictures as masks, which `data.component_masks` reads.

Legend: B pictures, M components, h w patch grid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress

from export.contract.category import FloatArray
from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box
from training.anomalymoe.calibration.knowledge import learn_product
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.component import stack_centres
from training.data.component_masks import mask_path
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_picture, upright_size
from training.data.store import PictureRows, PictureStore
from training.device import on_training_device

BATCH = 16


def write_components(
    checkpoint: Checkpoint, data: Place, output: Path, components: int | None, progress: Progress
) -> int:
    """Write a mask for every picture that has none, and say how many were written.

    components: how many of each product, from new centres; None for those of the checkpoint.
    Raises DataError for a product that neither the checkpoint nor normal training pictures tell of.
    """
    samples = find_samples(data)
    absent = [one for one in samples if not mask_path(output, one).exists()]
    for name in sorted({one.category for one in absent}):
        members = [one for one in absent if one.category == name]
        known = checkpoint.categories.get(name) if components is None else None
        own = [one for one in samples if one.category == name]
        centres = known.centres if known else _new_centres(checkpoint, name, own, components, progress)
        with on_training_device(checkpoint.detector):
            for start in progress.track(range(0, len(members), BATCH), description=f"segment {name}"):
                _write(checkpoint, members[start : start + BATCH], centres, output)
    return len(absent)


def _new_centres(
    checkpoint: Checkpoint, name: str, samples: Sequence[Sample], components: int | None, progress: Progress
) -> FloatArray:
    normal = [one for one in samples if one.split != "test" and not one.is_anomalous]
    if not normal:
        raise DataError(f"category {name!r}: not in the checkpoint, and no normal training pictures found")
    config = checkpoint.config
    store = PictureStore(normal, config.input, config.data.kept_bytes, config.data.workers, progress)
    count = components or config.calibration.components
    return learn_product(checkpoint.detector, PictureRows(store, normal), count).centres


@torch.inference_mode()
def _write(checkpoint: Checkpoint, samples: Sequence[Sample], centres: FloatArray, output: Path) -> None:
    detector, spec = checkpoint.detector, checkpoint.config.input
    pixels = torch.from_numpy(np.stack([load_picture(one.path, spec) for one in samples]))
    features = detector.encode(detector.normalise(pixels)).features
    known = stack_centres([centres] * len(samples))
    masks_BMhw = detector.component_masks(
        features, known.values.to(features.device), known.valid.to(features.device)
    )
    for sample, numbers_hw in zip(samples, masks_BMhw.int().argmax(1).cpu().numpy() + 1, strict=True):
        path = mask_path(output, sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        _at_picture_size(numbers_hw.astype(np.uint8), upright_size(sample.path), spec).save(part, "PNG")
        part.replace(path)


def _at_picture_size(numbers_hw: np.ndarray, size: tuple[int, int], spec: InputSpec) -> Image.Image:
    """The numbers (h, w) where a picture of `size` (width, height) was seen, 0 around."""
    left, top, right, bottom = (round(edge) for edge in visible_box(size, spec))
    canvas = Image.new("L", size)
    inside = Image.fromarray(numbers_hw).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    canvas.paste(inside, (left, top))
    return canvas
