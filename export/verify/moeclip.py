"""Prove that a moeclip bundle computes what its run does: every graph, then all as served, then the AUROC.

Legend: P prompts, r rows = pairs of a picture and a class name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from export.bundles.moeclip import Run
from export.contract.bundle import Bundle
from export.contract.category import FloatArray
from export.contract.manifest import Manifest
from export.contract.preprocess import Pixels
from export.contract.provenance import TOLERANCES
from export.graphs.moeclip import Vision, class_tokens, zero_shot_examples, zero_shot_parts, zero_shot_spec
from export.graphs.part import Part
from export.verify.accuracy import BATCH, Accuracy, compare_accuracy, read_test_samples
from export.verify.anomalymoe import Facts, check_same, present
from export.verify.comparison import (
    BATCHES,
    Comparison,
    Difference,
    Pictures,
    largest_difference,
    real_batches,
)
from service.inference.backends.base import Device
from service.inference.backends.loading import open_graph
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput, ZeroShotOutcome
from service.inference.text_tower import ClassText
from training.data.pictures import Sample, load_pixels
from training.moeclip.auxiliary import class_name
from training.moeclip.scoring import DOMAINS, Domain, Scorer

NAME = "object"  # what random pictures are said to show where no class name is known

Tensors = dict[str, Tensor]


class Case(NamedTuple):
    """One batch: the pictures, what each is said to show, and what goes into each graph."""

    pictures: Pictures
    pixels: Pixels
    names: list[str]
    feeds: dict[str, Tensors]


def read_class_samples(data: Path) -> list[Sample]:
    """The test pictures of a data set, whose categories are class names. Raises as `read_test_samples`."""
    return [replace(sample, category=class_name(sample)) for sample in read_test_samples(data)]


def compare_zero_shot(
    bundle: Bundle, run: Run, data: Path | None, progress: Progress, device: Device = "cpu"
) -> Comparison:
    """Compare a bundle with its run, on random pictures and on those of `data`, whose categories name them.

    Raises ValueError for the run of another bundle, BundleError for a changed file, GraphError for a graph
    that cannot run, DataError for test pictures that do not suffice.
    """
    check_same(_facts(bundle.manifest, run))
    samples = [] if data is None else read_class_samples(data)
    names = sorted({one.category for one in samples}) or list(run.class_scores) or [NAME]
    scorers: dict[Domain, Scorer] = {domain: Scorer(run, names, domain) for domain in DOMAINS}
    real = [_real_case(scorers["industrial"], batch) for batch in real_batches(samples)]
    cases = [*_random_cases(run, names), *real]
    differences: list[Difference] = []
    for part in progress.track(
        list(zero_shot_parts(run.model, bundle.manifest.map_size)), description="compare graphs"
    ):
        differences += _compare_graph(bundle, part, cases, device)
    served = Served(bundle, names, device=device)
    differences += _compare_whole(served, scorers, cases)
    accuracy = served.measure(scorers["industrial"], samples, progress)
    return Comparison(TOLERANCES[bundle.manifest.precision], differences, accuracy)


def _facts(manifest: Manifest, run: Run) -> Facts:
    """What a bundle and its run must agree in before any graph can be compared."""
    model, spec = run.config.model, zero_shot_spec(run)
    tokens, embedding = (manifest.graphs["vision"].outputs[name].shape for name in ("tokens", "embedding"))
    return {
        "categories": present(manifest.categories, run.class_scores),
        "top_k": (manifest.top_k, model.moe.top_k if model.moe else 0),
        "input": (manifest.input, run.config.input),
        "map_size": (manifest.map_size, run.config.map_size),
        "patches": (tokens[1], prod(model.clip.vision.grid)),
        "embedding": (embedding[-1], model.clip.embedding),
        "context_length": (manifest.zero_shot and manifest.zero_shot.context_length, spec.context_length),
    }


class Served:
    """The service's engine with the texts of class names. threads, device: see `open_graph`.

    Raises GraphError for a graph that cannot run, ValueError for a name that is too long.
    """

    def __init__(
        self, bundle: Bundle, names: Sequence[str], threads: int = 0, device: Device = "cpu"
    ) -> None:
        self.engine = ZeroShotEngine(bundle, device=device, threads=threads)
        self._texts: dict[str, ClassText] = {}
        for name, text in zip(names, self.engine.tower.run(names), strict=True):
            if isinstance(text, Exception):
                raise text
            self._texts[name] = text

    def find(
        self, pixels: Pixels, names: Sequence[str], domain: Domain = "industrial"
    ) -> list[ZeroShotOutcome]:
        """What the engine says of pictures (B, H, W, 3). Raises the error of the first that has one."""
        results = self.engine.run(
            [
                ZeroShotInput(one, (self._texts[name],), domain == "medical")
                for one, name in zip(pixels, names, strict=True)
            ]
        )
        for result in results:
            if isinstance(result, Exception):
                raise result
        return [result for result in results if isinstance(result, ZeroShotOutcome)]

    def measure(self, scorer: Scorer, samples: Sequence[Sample], progress: Progress) -> list[Accuracy]:
        """Both image AUROCs of every class name among the samples, as industrial pictures."""

        def by_torch(members: Sequence[Sample]) -> FloatArray:
            label = f"score {members[0].category}"
            parts = scorer.score_samples(members, scorer.run.config.map_size, progress, label)
            return torch.cat([part.score for part in parts]).numpy()

        return compare_accuracy(samples, by_torch, lambda members: self.scores(members, progress))

    def scores(self, samples: Sequence[Sample], progress: Progress) -> FloatArray:
        """Image scores of pictures of one class."""
        name, found = samples[0].category, list[float]()
        starts = range(0, len(samples), BATCH)
        for start in progress.track(starts, description=f"score {name} with the bundle"):
            batch = samples[start : start + BATCH]
            pixels = load_pixels(batch, self.engine.manifest.input)
            found += [one.scores[0] for one in self.find(pixels, [name] * len(batch))]
        return np.array(found, np.float32)


def _random_cases(run: Run, names: Sequence[str]) -> Iterator[Case]:
    for batch in BATCHES:
        feeds = {key: zero_shot_examples(run.config.model, key, batch) for key in ("vision", "text", "head")}
        shown = [names[place % len(names)] for place in range(batch)]
        yield Case("random", feeds["vision"]["image"].numpy(), shown, feeds)


@torch.no_grad()
def _real_case(scorer: Scorer, samples: Sequence[Sample]) -> Case:
    """Pictures with their class names; some of the prompts; what torch gives of both."""
    run, names = scorer.run, [one.category for one in samples]
    pixels = load_pixels(samples, run.config.input)
    image, rows = torch.from_numpy(pixels), torch.arange(len(samples))
    tokens_PL = class_tokens(run, dict.fromkeys(names))
    tokens, summary, _ = Vision(run.model)(image)
    text, medical = scorer.texts.of(names), rows % 2 == 0
    head = {"tokens": tokens, "summary": summary, "rows": rows, "text": text, "medical": medical}
    some = torch.linspace(0, len(tokens_PL) - 1, len(samples)).long()
    feeds = {"vision": {"image": image}, "text": {"tokens": tokens_PL[some]}, "head": head}
    return Case("real", pixels, names, feeds)


def _compare_graph(bundle: Bundle, part: Part, cases: Sequence[Case], device: Device) -> list[Difference]:
    """One graph in every batch; it is closed then, since a large one takes gigabytes."""
    graph = open_graph(bundle, part.key, device)
    return [
        Difference(
            part.key, case.pictures, len(case.names), largest_difference(part, graph, case.feeds[part.key])
        )
        for case in cases
    ]


def _compare_whole(
    served: Served, scorers: Mapping[Domain, Scorer], cases: Sequence[Case]
) -> Iterator[Difference]:
    """Map and score as the service computes them, in both domains, relative to their range 0..1.

    The map of a picture may be zero nearly everywhere, so that its own largest value says nothing.
    """
    for place, case in enumerate(cases):
        domain = DOMAINS[place % len(DOMAINS)]
        pixels = torch.from_numpy(case.pixels)
        expected = scorers[domain].score(pixels, case.names, served.engine.manifest.map_size)
        found = served.find(case.pixels, case.names, domain)
        maps = np.stack([one.maps[0] for one in found]) - torch.sigmoid(expected.margins).numpy()
        scores = np.array([one.scores[0] for one in found]) - expected.score.numpy()
        yield Difference("map", case.pictures, len(found), float(np.abs(maps).max()))
        yield Difference("score", case.pictures, len(found), float(np.abs(scores).max()))
