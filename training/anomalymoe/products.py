"""Products of a detector, from normal pictures: learnt and calibrated by `fit`, or later by `calibrate`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import Progress

from export.contract.category import Category
from training.anomalymoe.calibration.calibrate import FEW, calibrate, calibrate_by_folds, cross_calibrate
from training.anomalymoe.calibration.knowledge import Knowledge, learn_product
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit_config import FitConfig
from training.anomalymoe.loop import NormalPictures, refitted
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.head import Head
from training.data.dataset import Place, find_samples, split_holdout
from training.data.sets.samples import DataError, Sample
from training.data.store import PictureRows, PictureStore
from training.reach import FOLDS
from training.runs.files import replace_categories


class NormalSplit(NamedTuple):
    """Normal pictures for training and for calibration, and where the pixels of all come from."""

    kept: list[Sample]
    held_out: list[Sample]
    store: PictureStore

    def by_category(self, samples: Sequence[Sample]) -> dict[str, PictureRows]:
        """Pictures (n, H, W, 3) of each category, by name in alphabetical order."""
        members: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            members[sample.category].append(sample)
        return {name: PictureRows(self.store, members[name]) for name in sorted(members)}


def find_normal(data: Place) -> list[Sample]:
    """All normal training pictures of a data set. Raises DataError when there are none."""
    normal = [one for one in find_samples(data) if one.split != "test" and not one.is_anomalous]
    if not normal:
        raise DataError(f"{data}: no normal training pictures (train/good) found")
    return normal


def read_normal(normal: Sequence[Sample], config: FitConfig, progress: Progress) -> NormalSplit:
    """The pictures, read and split. Raises DataError when those of a product are all the same."""
    kept, held_out = split_holdout(normal, config.calibration.holdout)
    reading = config.data
    store = PictureStore(normal, config.input, reading.kept_bytes, reading.workers, progress, reading.jpeg)
    split = NormalSplit(kept, held_out, store)
    for name, pictures in split.by_category(normal).items():
        if len({store.digests[one] for one in pictures.samples}) == 1:
            raise DataError(
                f"category {name!r}: its {len(pictures)} normal pictures are all the same, "
                "at least one other is needed to know how they vary"
            )
    return split


def learn_products(
    detector: AnomalyMoE, split: NormalSplit, config: FitConfig, progress: Progress
) -> dict[str, Knowledge]:
    """Centres and prototype of each product, from the pictures that are not held out."""
    task = progress.add_task("learn products", total=len(split.kept))
    return {
        name: learn_product(
            detector, pictures, config.calibration.components, on_batch=partial(progress.advance, task)
        )
        for name, pictures in split.by_category(split.kept).items()
    }


def calibrate_products(
    detector: AnomalyMoE,
    split: NormalSplit,
    known: Mapping[str, Knowledge],
    config: FitConfig,
    progress: Progress,
) -> dict[str, Category]:
    """The category of each product, from the pictures that are held out."""
    head = Head(config.map_size, detector.encoder.grid)
    held_out = split.by_category(split.held_out)
    return {
        name: calibrate(detector, head, name, known[name], held_out[name], config.scoring)
        for name in progress.track(known, description="calibrate")
    }


def cross_calibrate_products(
    detector: AnomalyMoE,
    split: NormalSplit,
    normal: NormalPictures,
    known: Mapping[str, Knowledge],
    config: FitConfig,
    progress: Progress,
) -> dict[str, Category]:
    """The category of each product where nothing is held out; normal: all pictures, product by product."""
    products = split.by_category(split.kept)
    fold_n = np.concatenate([np.arange(len(pictures)) % FOLDS for pictures in products.values()])
    folds = progress.track(range(FOLDS), description="cross-fit")
    detectors = [refitted(detector, normal.take(fold_n != fold), config.train) for fold in folds]
    head = Head(config.map_size, detector.encoder.grid)
    return {
        name: calibrate_by_folds(detectors, head, name, known[name], pictures, config.scoring)
        for name, pictures in progress.track(products.items(), description="calibrate")
    }


def measure_products(
    detector: AnomalyMoE, data: Place, config: FitConfig, progress: Progress
) -> dict[str, Category]:
    """Learn and calibrate the products of a data set with a detector that stays as it is.

    Raises DataError when there are no normal training pictures.
    """
    split = read_normal(find_normal(data), config, progress)
    known = learn_products(detector, split, config, progress)
    calibrated = calibrate_products(detector, split, known, config, progress) if split.held_out else {}
    return calibrated | _cross_calibrate_few(detector, split, config, progress)


def _cross_calibrate_few(
    detector: AnomalyMoE, split: NormalSplit, config: FitConfig, progress: Progress
) -> dict[str, Category]:
    """Products with few pictures, or none held out, from all of them, as none trained the detector."""
    head = Head(config.map_size, detector.encoder.grid)
    products = split.by_category(split.kept + split.held_out)
    few = {name: rows for name, rows in products.items() if len(rows) <= FEW or not split.held_out}
    return {
        name: cross_calibrate(detector, head, name, pictures, config.calibration.components, config.scoring)
        for name, pictures in progress.track(few.items(), description="cross-fit")
    }


def add_products(folder: Path, data: Place, progress: Progress) -> list[str]:
    """Learn and calibrate the products of a data set into a checkpoint, and return their names.

    A product of the same name is replaced, the others stay. Raises CheckpointError or DataError.
    """
    checkpoint = load_checkpoint(folder, calibrated=False)
    added = measure_products(checkpoint.detector, data, checkpoint.config, progress)
    replace_categories(folder, (checkpoint.categories | added).values())
    return list(added)
