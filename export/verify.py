"""Prove that a bundle computes what its checkpoint does: every graph, on random input, in several batches."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch

from export.contract.bundle import Bundle
from export.graphs import Part, detector_parts, example_tensors
from training.anomalymoe.head import Head
from training.checkpoint import Checkpoint

TOLERANCE = 1e-4
BATCHES = {1: (0,), 3: (2, 0), 8: (0, 1, 3, 4, 7)}  # batch size: the pictures that chose the expert


class Difference(NamedTuple):
    """The largest difference of one graph to the torch model in one batch, relative to the largest value."""

    graph: str
    batch: int
    largest: float

    @property
    def is_accepted(self) -> bool:
        """Within TOLERANCE, which NaN never is."""
        return self.largest <= TOLERANCE


def compare(bundle: Bundle, checkpoint: Checkpoint) -> Iterator[Difference]:
    """Yield the difference of every graph for every batch size. Raises BundleError for a changed file."""
    detector = checkpoint.detector
    examples = {batch: example_tensors(detector, batch, rows) for batch, rows in BATCHES.items()}
    for part in detector_parts(detector, Head(checkpoint.config.map_size), bundle.manifest.experts):
        session = onnxruntime.InferenceSession(
            bundle.graph_bytes(part.key), providers=["CPUExecutionProvider"]
        )
        for batch, tensors in examples.items():
            yield Difference(part.key, batch, _largest(part, session, tensors))


def _largest(part: Part, session: onnxruntime.InferenceSession, tensors: dict[str, torch.Tensor]) -> float:
    with torch.no_grad():
        expected = part.module(*(tensors[name] for name in part.inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = session.run(list(part.outputs), {name: tensors[name].numpy() for name in part.inputs})
    return max(_relative(np.asarray(one), other.numpy()) for one, other in zip(found, expected, strict=True))


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
