"""Bundles of one model in several forms: size, speed and accuracy, each compared with the first.

    python -m benchmarks.precisions bundles/demo bundles/demo-int8 ... --data runs/demo-data

The categories of the data are class names for zero-shot bundles, whose texts are known before.

Rounds are interleaved, so that a busy machine slows all bundles alike; the figure is the median over rounds
of the ratio within a round. On CPUs it is processor time, in which what others on the machine do is not.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from export.contract.bundle import Bundle
from export.verify.accuracy import outcomes, read_pictures, read_test_samples
from export.verify.moeclip import Served, read_class_samples
from service.inference.anomalymoe import Engine
from service.inference.backends.base import Device
from training.data.pictures import Sample, load_pixels
from training.metrics import auroc

BATCHES = (1, 8)

Job = Callable[[], list[float]]
Scoring = Callable[[Sequence[Sample]], Job]
"""Reads pictures; what it gives scores them."""


def main(
    bundles: Annotated[list[Path], typer.Argument(exists=True, file_okay=False)],
    data: Annotated[Path, typer.Option(exists=True, help="Data set with test pictures.")],
    rounds: Annotated[int, typer.Option(min=3)] = 15,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Device = "cpu",
) -> None:
    """Print one line of a Markdown table for each bundle."""
    opened = [Bundle.read(folder) for folder in bundles]
    is_zero_shot = opened[0].manifest.kind == "moeclip"
    samples = (
        read_class_samples(data) if is_zero_shot else read_test_samples(data, opened[0].manifest.categories)
    )
    by_kind = by_names if is_zero_shot else by_products
    scorings = [by_kind(bundle, samples, threads, device) for bundle in opened]
    few = samples[:: max(1, len(samples) // max(BATCHES))][: max(BATCHES)]
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = {batch: interleaved([one(few[:batch]) for one in scorings], rounds, clock) for batch in BATCHES}
    sizes = [sum(file.bytes for file in bundle.manifest.files.values()) for bundle in opened]
    accuracy = [mean_auroc(one, samples) for one in scorings]
    print("| bundle | size | time, 1 picture | time, 8 pictures | image AUROC, points |")
    print("|---|---|---|---|---|")
    for place, bundle in enumerate(opened):
        form = f"{bundle.manifest.format} {bundle.manifest.precision}"
        spent = [median(one[place] / one[0] for one in times[batch]) for batch in BATCHES]
        cells = [f"{sizes[place] / sizes[0]:.2f}", *(f"{ratio:.2f}" for ratio in spent)]
        print(f"| {form} | {' | '.join(cells)} | {100 * (accuracy[place] - accuracy[0]):+.2f} |")
    print(f"first: {sizes[0] / 1e6:.1f} MB, ", end="")
    print(", ".join(f"{1000 * median(one[0] for one in times[b]):.0f} ms for {b}" for b in BATCHES), end=", ")
    print(f"AUROC {100 * accuracy[0]:.2f}; {threads} threads, {rounds} rounds")


def by_products(bundle: Bundle, _samples: Sequence[Sample], threads: int, device: Device) -> Scoring:
    """The engine of an anomalymoe bundle."""
    engine = Engine(bundle, device=device, threads=threads)

    def ready(batch: Sequence[Sample]) -> Job:
        pictures = read_pictures(batch, engine)
        return lambda: [one.raw_score for one in outcomes(engine, pictures)]

    return ready


def by_names(bundle: Bundle, samples: Sequence[Sample], threads: int, device: Device) -> Scoring:
    """The engine of a moeclip bundle, each picture with its class name."""
    served = Served(bundle, sorted({one.category for one in samples}), threads, device)

    def ready(batch: Sequence[Sample]) -> Job:
        pixels, names = load_pixels(batch, bundle.manifest.input), [one.category for one in batch]
        return lambda: [one.scores[0] for one in served.find(pixels, names)]

    return ready


def interleaved(jobs: Sequence[Job], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds of each job in each round; the first run of each is not counted."""
    for job in jobs:
        job()
    return [[spent(job, clock) for job in jobs] for _ in range(rounds)]


def spent(job: Job, clock: Callable[[], float]) -> float:
    """Seconds of one run."""
    start = clock()
    job()
    return clock() - start


def mean_auroc(scoring: Scoring, samples: Sequence[Sample]) -> float:
    """Image AUROC, the mean over the categories."""
    figures = []
    for name in sorted({sample.category for sample in samples}):
        members = [sample for sample in samples if sample.category == name]
        starts = range(0, len(members), max(BATCHES))
        scores = [one for start in starts for one in scoring(members[start : start + max(BATCHES)])()]
        figures.append(auroc(np.array([sample.is_anomalous for sample in members]), np.array(scores)))
    return float(np.mean(figures))


if __name__ == "__main__":
    typer.run(main)
