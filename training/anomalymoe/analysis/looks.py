"""Test pictures as the router and the experts see them, a batch at a time.

Legend: b pictures of a batch, E experts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress

from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.router import RouterOutput
from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample, load_picture
from training.device import on_training_device

BATCH = 16


class Look(NamedTuple):
    """Pictures of one batch, what the router decides, and what the experts look at."""

    samples: Sequence[Sample]
    router: RouterOutput
    scene: Scene


def known_test_samples(checkpoint: Checkpoint, data: Place) -> list[Sample]:
    """The test pictures, category by category.

    Raises DataError when there are none, or some of a category that is not in the checkpoint.
    """
    samples = [one for one in find_samples(data) if one.split == "test"]
    if not samples:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    unknown = sorted({one.category for one in samples} - set(checkpoint.categories))
    if unknown:
        known = ", ".join(checkpoint.categories)
        raise DataError(f"{data}: category {unknown[0]!r} is not in the checkpoint, which knows {known}")
    return sorted(samples, key=lambda one: one.category)


@torch.no_grad()
def look(
    checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress, description: str
) -> Iterator[Look]:
    """Each batch of pictures encoded, routed, and parted into components."""
    detector, spec = checkpoint.detector, checkpoint.config.input
    with on_training_device(detector):
        for start in progress.track(range(0, len(samples), BATCH), description=description):
            batch = samples[start : start + BATCH]
            pixels = torch.from_numpy(np.stack([load_picture(one.path, spec) for one in batch]))
            image = detector.normalise(pixels)
            features, cls = detector.encode(image)
            centres = stack_centres([checkpoint.categories[one.category].centres for one in batch])
            known = (part.to(image.device) for part in centres)
            masks = detector.component_masks(features, *known)
            yield Look(batch, detector.router(cls), Scene(image, features, masks))


def expert_names(detector: AnomalyMoE) -> list[str]:
    """`patch 0`, `patch 1`, ... in router order, numbered within their level as in the service's answer."""
    levels = detector.levels
    return [f"{level} {column - levels.index(level)}" for column, level in enumerate(levels)]
