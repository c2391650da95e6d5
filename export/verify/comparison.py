"""How far outputs of graphs and of the model are apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Literal, NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from export.contract.provenance import Verification
from export.graphs.part import Part
from export.verify.accuracy import Accuracy
from service.inference.backends.base import Array, Graph
from training.data.pictures import Sample

BATCHES = {1: (0,), 3: (2, 0), 8: (0, 1, 3, 4, 7)}  # batch size: the pictures that chose the expert
MOST_DROP = 0.5  # points of image AUROC
END_TO_END = ("map", "score")

Pictures = Literal["random", "real"]


class Difference(NamedTuple):
    """The largest difference of a graph, or of the score or the map, to the torch model in one batch."""

    subject: str
    pictures: Pictures
    batch: int
    largest: float


@dataclass(frozen=True)
class Comparison:
    """All differences of a bundle, and its accuracy where test pictures were given."""

    tolerance: float | None
    differences: list[Difference]
    accuracy: list[Accuracy]

    def complaints(self) -> list[str]:
        """What is out of bounds, or missing, in words; none for a bundle that can be trusted."""
        limit = math.inf if self.tolerance is None else self.tolerance
        # NaN is within no limit.
        wrong = [
            one.subject for one in self.differences if not one.largest <= limit or one.largest == math.inf
        ]
        found = []
        if wrong:
            found.append(f"differs by more than {limit:g} in {', '.join(dict.fromkeys(wrong))}")
        if self.tolerance is None and not self.accuracy:
            found.append("is judged by its AUROC, for which test pictures are needed (--data)")
        if self.tolerance is None:
            found += [
                f"AUROC of {one.category} drops by {one.drop:.2f} points, {MOST_DROP:g} are accepted"
                for one in self.accuracy
                if not one.drop <= MOST_DROP
            ]
        return found

    def largest(self) -> dict[str, float]:
        """The largest difference of each subject."""
        subjects = dict.fromkeys(one.subject for one in self.differences)
        return {
            name: max(one.largest for one in self.differences if one.subject == name) for name in subjects
        }

    def verification(self) -> Verification:
        """What the manifest keeps of it."""
        batches = {(one.pictures, one.batch) for one in self.differences}
        return Verification(
            at=datetime.now(timezone.utc).replace(microsecond=0),
            tolerance=self.tolerance,
            largest={name: float(f"{value:.3g}") for name, value in self.largest().items()},
            random=sum(batch for pictures, batch in batches if pictures == "random"),
            real=sum(batch for pictures, batch in batches if pictures == "real"),
            auroc={one.category: (one.torch, one.bundle) for one in self.accuracy},
            versions={
                "anomoe": version("anomoe"),
                "torch": version("torch"),
                "onnxruntime": onnxruntime.__version__,  # of the package for CPUs or that for GPUs
            },
        )


def real_batches(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Test pictures from all over, in every batch size; none where there are too few."""
    if len(samples) < max(BATCHES):
        return []
    spread = iter(np.linspace(0, len(samples) - 1, sum(BATCHES)).astype(int))
    return [[samples[next(spread)] for _ in range(batch)] for batch in BATCHES]


def largest_difference(part: Part, graph: Graph, tensors: dict[str, Tensor]) -> float:
    """The largest relative difference of any output of a graph to that of its part."""
    with torch.no_grad():
        expected = part.module(*(tensors[name] for name in part.inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = graph.run({name: tensors[name].numpy() for name in part.inputs})
    return max(
        relative(found[name], other.numpy()) for name, other in zip(part.outputs, expected, strict=True)
    )


def relative(found: Array, expected: Array) -> float:
    """The largest difference as a share of the largest value."""
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return float(gap / max(float(np.abs(expected).max()), 1e-12))
