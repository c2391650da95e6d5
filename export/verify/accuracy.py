"""What exporting costs in accuracy: image AUROC of the torch model and of a bundle on the same pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import Progress
from rich.table import Table

from export.contract.category import FloatArray
from service.inference.anomalymoe import Engine, Outcome, Picture
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.evaluation.evaluate import score_samples
from training.data.dataset import find_samples
from training.data.pictures import DataError, Sample, load_picture
from training.metrics import auroc

BATCH = 8

Scoring = Callable[[Sequence[Sample]], FloatArray]
"""Raw image scores of the test pictures of one category."""


class Accuracy(NamedTuple):
    """Image AUROC (0..1) on the test pictures of one category."""

    category: str
    torch: float
    bundle: float

    @property
    def drop(self) -> float:
        """How much the bundle is worse, in points (percent)."""
        return 100 * (self.torch - self.bundle)


def read_test_samples(data: Path, categories: Sequence[str] | None = None) -> list[Sample]:
    """The test pictures of some categories, or of all that have any.

    Raises DataError for a category without a good or without a defective one, and where there are none.
    """
    samples = [one for one in find_samples(data) if one.split == "test"]
    names = sorted({one.category for one in samples}) if categories is None else categories
    if not names:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    for name in names:
        if len({one.is_anomalous for one in samples if one.category == name}) < 2:
            raise DataError(f"{data}: category {name!r} needs good and defective test pictures")
    return [one for one in samples if one.category in names]


def compare_accuracy(samples: Sequence[Sample], by_torch: Scoring, by_bundle: Scoring) -> list[Accuracy]:
    """Both AUROCs of every category among the samples."""
    found = []
    for name in sorted({sample.category for sample in samples}):
        members = [sample for sample in samples if sample.category == name]
        labels = np.array([sample.is_anomalous for sample in members])
        found.append(Accuracy(name, auroc(labels, by_torch(members)), auroc(labels, by_bundle(members))))
    return found


def measure_accuracy(
    engine: Engine, checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress
) -> list[Accuracy]:
    """Both AUROCs of every category among the samples; each picture is scored as one of its category.

    Raises GraphError when a picture cannot be scored.
    """
    return compare_accuracy(
        samples,
        lambda members: score_samples(checkpoint, members, progress).scores,
        lambda members: _scores(engine, members, progress),
    )


def accuracy_table(accuracy: Sequence[Accuracy]) -> Table:
    """Image AUROC in percent, before and after."""
    table = Table("category", "torch", "bundle", "drop", caption="image AUROC in percent; drop in points")
    for one in accuracy:
        table.add_row(one.category, f"{100 * one.torch:.2f}", f"{100 * one.bundle:.2f}", f"{one.drop:.2f}")
    return table


def outcomes(engine: Engine, pictures: Sequence[Picture]) -> list[Outcome]:
    """What the engine says about a batch. Raises the error of the first picture that has one."""
    results = engine.run(pictures)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Outcome)]


def read_pictures(samples: Sequence[Sample], engine: Engine) -> list[Picture]:
    """Test pictures at model size, each with its category."""
    spec = engine.manifest.input
    return [Picture(load_picture(sample.path, spec), sample.category) for sample in samples]


def _scores(engine: Engine, samples: Sequence[Sample], progress: Progress) -> FloatArray:
    starts = progress.track(
        range(0, len(samples), BATCH), description=f"score {samples[0].category} with the bundle"
    )
    parts = [outcomes(engine, read_pictures(samples[start : start + BATCH], engine)) for start in starts]
    return np.array([one.raw_score for part in parts for one in part], np.float32)
