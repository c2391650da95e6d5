"""Prove that a bundle computes what its checkpoint does: every graph, then end to end, then its accuracy.

Differences are relative to the largest value of the tensor at hand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from export.bundles.active import expert_specs, with_experts
from export.contract.bundle import Bundle
from export.contract.manifest import Manifest
from export.contract.provenance import TOLERANCES
from export.graphs.anomalymoe import detector_parts, part_inputs
from export.graphs.part import random_pictures
from export.verify.accuracy import measure_accuracy, outcomes, read_pictures, read_test_samples
from export.verify.comparison import (
    BATCHES,
    Comparison,
    Difference,
    Pictures,
    largest_difference,
    real_batches,
    relative,
)
from service.inference.anomalymoe import Engine, Picture
from service.inference.backends.base import Device
from service.inference.backends.loading import open_graph
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.head import Head
from training.anomalymoe.scoring import score_pictures
from training.data.pictures import Sample

Facts = Mapping[str, tuple[object, object]]
"""By name: what the bundle says, and what the run does."""

Batches = dict[Pictures, list[list[Picture]]]


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
    return ", ".join(names) or "none", ", ".join(kept) or ("none of them" if names else "none")


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
