"""Bundles of one model in several forms: size, speed and accuracy, each compared with the first.

    python -m benchmarks.precisions bundles/demo bundles/demo-int8 ... --data runs/demo-data

Rounds are interleaved, so that a busy machine slows all bundles alike; the figure is the median over rounds
of the ratio within a round.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from export.accuracy import outcomes, read_pictures, read_test_samples
from export.contract.bundle import Bundle
from service.engine import Engine, Picture
from training.data import Sample
from training.metrics import auroc

BATCHES = (1, 8)


def main(
    bundles: Annotated[list[Path], typer.Argument(exists=True, file_okay=False)],
    data: Annotated[Path, typer.Option(exists=True, help="Data set with test pictures.")],
    rounds: Annotated[int, typer.Option(min=3)] = 15,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print one line of a Markdown table for each bundle."""
    opened = [Bundle.read(folder) for folder in bundles]
    engines = [Engine(bundle, device="cpu", threads=threads) for bundle in opened]
    samples = read_test_samples(data, opened[0].manifest.categories)
    pictures = read_pictures(samples[:: max(1, len(samples) // max(BATCHES))][: max(BATCHES)], engines[0])
    times = {batch: interleaved(engines, pictures[:batch], rounds) for batch in BATCHES}
    sizes = [sum(file.bytes for file in bundle.manifest.files.values()) for bundle in opened]
    accuracy = [mean_auroc(engine, samples) for engine in engines]
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


def interleaved(engines: Sequence[Engine], pictures: Sequence[Picture], rounds: int) -> list[list[float]]:
    """Processor seconds of each engine in each round; the first run of each is not counted."""
    for engine in engines:
        outcomes(engine, pictures)
    return [[spent(engine, pictures) for engine in engines] for _ in range(rounds)]


def spent(engine: Engine, pictures: Sequence[Picture]) -> float:
    """Processor seconds of one run: what others on the machine do is not in it."""
    start = time.process_time()
    outcomes(engine, pictures)
    return time.process_time() - start


def mean_auroc(engine: Engine, samples: Sequence[Sample]) -> float:
    """Image AUROC, the mean over the categories."""
    figures = []
    for name in sorted({sample.category for sample in samples}):
        members = [sample for sample in samples if sample.category == name]
        scores = [
            outcome.raw_score
            for start in range(0, len(members), 8)
            for outcome in outcomes(engine, read_pictures(members[start : start + 8], engine))
        ]
        figures.append(auroc(np.array([sample.is_anomalous for sample in members]), np.array(scores)))
    return float(np.mean(figures))


if __name__ == "__main__":
    typer.run(main)
