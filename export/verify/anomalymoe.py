"""Prove that a bundle computes what its checkpoint does: every graph, then end to end, then its accuracy.

Differences are relative to the largest value of the tensor at hand.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import onnxruntime
import torch
from rich.progress import Progress
from torch import Tensor

from export.bundles.active import expert_specs, with_experts
from export.contract.bundle import Bundle
from export.contract.manifest import Manifest
from export.contract.provenance import TOLERANCES, Verification
from export.graphs.anomalymoe import Part, detector_parts, part_inputs, random_pictures
from export.verify.accuracy import Accuracy, measure_accuracy, outcomes, read_pictures, read_test_samples
from service.inference.anomalymoe import Engine, Picture
from service.inference.backends.base import Array, Device, Graph
from service.inference.backends.loading import open_graph
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import score_pictures
from training.data.pictures import Sample

BATCHES = {1: (0,), 3: (2, 0), 8: (0, 1, 3, 4, 7)}  # batch size: the pictures that chose the expert
MOST_DROP = 0.5  # points of image AUROC
END_TO_END = ("map", "score")

Pictures = Literal["random", "real"]
Facts = Mapping[str, tuple[object, object]]
"""By name: what the bundle says, and what the run does."""

Batches = dict[Pictures, list[list[Picture]]]


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


def compare(
    bundle: Bundle,
    checkpoint: Checkpoint,
    data: Path | None,
    progress: Progress,
    device: Device = "cpu",
) -> Comparison:
    """Compare a bundle with the torch model that has the same experts, on random pictures and of `data`.

    Raises ValueError for the run of another bundle, BundleError for a changed file, GraphError for a graph
    that cannot run, DataError for test pictures that do not suffice.
    """
    check_same(_facts(bundle.manifest, checkpoint))
    columns = [expert.column for expert in bundle.manifest.experts]
    same = replace(checkpoint, detector=with_experts(checkpoint.detector, columns))
    engine = Engine(bundle, device=device)
    samples = [] if data is None else read_test_samples(data, bundle.manifest.categories)
    batches = _batches(engine, samples)
    graphs = _compare_graphs(bundle, same, batches, progress, device)
    differences = [*graphs, *_compare_whole(engine, same, batches)]
    accuracy = measure_accuracy(engine, same, samples, progress) if samples else []
    return Comparison(TOLERANCES[bundle.manifest.precision], differences, accuracy)


def check_same(facts: Facts) -> None:
    """Raise ValueError naming each fact that is another in the run than in the bundle."""
    different = [
        f"{name} {theirs} in the bundle, {ours} in the run"
        for name, (theirs, ours) in facts.items()
        if theirs != ours
    ]
    if different:
        raise ValueError(f"the bundle was made from another run: {'; '.join(different)}")


def present(wanted: Iterable[str], known: Iterable[str]) -> tuple[str, str]:
    """The names that are wanted, and those of them that are known, in words."""
    names = sorted(wanted)
    kept = [name for name in names if name in set(known)]
    return ", ".join(names) or "none", ", ".join(kept) or "none of them"


def _facts(manifest: Manifest, checkpoint: Checkpoint) -> Facts:
    """What a bundle and its run must agree in before any graph can be compared."""
    detector, config = checkpoint.detector, checkpoint.config
    theirs, ours = (
        [f"{one.level} {one.index} (column {one.column})" for one in experts]
        for experts in (manifest.experts, expert_specs(detector))
    )
    encoded = part_inputs(detector, random_pictures((config.input.height, config.input.width), 1), (0,))
    backbone = manifest.graphs["backbone"].outputs
    return {
        "categories": present(manifest.categories, checkpoint.categories),
        "experts": present(theirs, ours),
        "top_k": (manifest.top_k, detector.router.config.top_k),
        "input": (manifest.input, config.input),
        "map_size": (manifest.map_size, config.map_size),
        **{name: (backbone[name].shape[1:], tuple(encoded[name].shape[1:])) for name in ("features", "cls")},
    }


def _batches(engine: Engine, samples: Sequence[Sample]) -> Batches:
    """Pictures in every batch size; random ones are of each category in turn, real ones from all over."""
    names, size = list(engine.categories), (engine.manifest.input.height, engine.manifest.input.width)
    random = [
        [
            Picture(pixels.numpy(), names[place % len(names)])
            for place, pixels in enumerate(random_pictures(size, batch))
        ]
        for batch in BATCHES
    ]
    return {"random": random, "real": [read_pictures(batch, engine) for batch in real_batches(samples)]}


def real_batches(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Test pictures from all over, in every batch size; none where there are too few."""
    if len(samples) < max(BATCHES):
        return []
    spread = iter(np.linspace(0, len(samples) - 1, sum(BATCHES)).astype(int))
    return [[samples[next(spread)] for _ in range(batch)] for batch in BATCHES]


def _pixels(batch: Sequence[Picture]) -> Tensor:
    return torch.from_numpy(np.stack([picture.pixels for picture in batch]))


def _compare_graphs(
    bundle: Bundle, checkpoint: Checkpoint, batches: Batches, progress: Progress, device: Device
) -> Iterator[Difference]:
    """Every graph on the inputs that the torch model gives it."""
    detector, manifest = checkpoint.detector, bundle.manifest
    inputs: list[tuple[Pictures, dict[str, Tensor]]] = [
        (pictures, part_inputs(detector, _pixels(batch), BATCHES[len(batch)]))
        for pictures, group in batches.items()
        for batch in group
    ]
    head = Head(checkpoint.config.map_size, detector.encoder.grid)
    parts = list(detector_parts(detector, head, manifest.experts))
    for part in progress.track(parts, description="compare graphs"):
        graph = open_graph(bundle, part.key, device)
        for pictures, tensors in inputs:
            yield Difference(
                part.key, pictures, len(tensors["image"]), largest_difference(part, graph, tensors)
            )


def _compare_whole(engine: Engine, checkpoint: Checkpoint, batches: Batches) -> Iterator[Difference]:
    """Map and score as the service computes them."""
    head = Head(checkpoint.config.map_size, checkpoint.detector.encoder.grid)
    for pictures, group in batches.items():
        for batch in group:
            categories = [checkpoint.categories[str(picture.category)] for picture in batch]
            expected = score_pictures(checkpoint.detector, head, _pixels(batch), categories)
            found = outcomes(engine, batch)
            maps, scores = np.stack([one.map for one in found]), np.array([one.raw_score for one in found])
            yield Difference("map", pictures, len(batch), relative(maps, expected.map.numpy()))
            yield Difference("score", pictures, len(batch), relative(scores, expected.score.numpy()))


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
