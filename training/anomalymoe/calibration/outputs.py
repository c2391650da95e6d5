"""What the model says about calibration pictures, before anything is calibrated.

Legend: n pictures, E experts, h w patch grid, V width of the cls token, F statistics of appearance.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from export.contract.preprocess import Pixels
from training.anomalymoe.calibration.knowledge import BATCH, Knowledge, appearances
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.router import RouterOutput
from training.data.store import Pictures, batches
from training.device import on_training_device


class Part(NamedTuple):
    """Pictures to calibrate on, with a detector and a knowledge of the product that others have taught."""

    detector: AnomalyMoE
    known: Knowledge
    pictures: Pictures


class Outputs(NamedTuple):
    """What the model says about pictures: cls (n, V), routing, and errors (n, E, h, w) of every expert.

    looks (n, F): statistics of their pixels.
    """

    cls: Tensor
    looks: Tensor
    router: RouterOutput
    errors: Tensor

    def take(self, rows: Tensor) -> "Outputs":
        router = RouterOutput(*(part[rows] for part in self.router))
        return Outputs(self.cls[rows], self.looks[rows], router, self.errors[rows])


def outputs_by_batch(parts: Iterable[Part]) -> Iterator[Outputs]:
    """What the model says, a batch at a time."""
    for detector, known, pictures in parts:
        with on_training_device(detector):
            for pixels in batches(pictures, BATCH):
                yield _of_batch(detector, pixels, known)


def all_outputs(parts: Sequence[Part]) -> Outputs:
    """What the model says about all pictures."""
    columns = ((one.cls, one.looks, *one.router, one.errors) for one in outputs_by_batch(parts))
    cls, looks, *router, errors = joined(columns, picture_count(parts))
    return Outputs(cls, looks, RouterOutput(*router), errors)


def _of_batch(detector: AnomalyMoE, pixels: Pixels, known: Knowledge) -> Outputs:
    image = detector.normalise(torch.from_numpy(pixels))
    features, cls = detector.encode(image)
    given = stack_centres([known.centres] * len(pixels))
    masks = detector.component_masks(features, given.values.to(image.device), given.valid.to(image.device))
    errors = detector.expert_errors(Scene(image, features, masks))
    router = RouterOutput(*(part.cpu() for part in detector.router(cls)))
    return Outputs(cls.cpu(), torch.from_numpy(appearances(pixels)), router, errors.cpu())


def joined(parts: Iterable[Sequence[Tensor]], count: int) -> list[Tensor]:
    """Each column of the parts (rows, ...) as one tensor (count, ...).

    Filled in place: small tensors between large ones that come and go would hold many times their memory.
    """
    columns: list[Tensor] = []
    done = 0
    for batch in parts:
        columns = columns or [part.new_empty(count, *part.shape[1:]) for part in batch]
        rows = slice(done, done := done + len(batch[0]))
        for column, part in zip(columns, batch, strict=True):
            column[rows] = part
    return columns


def picture_count(parts: Iterable[Part]) -> int:
    """Number of pictures of all parts."""
    return sum(len(part.pictures) for part in parts)
