"""The models in service: each bundle with its way to the device, and which one answers a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import structlog

from export.contract.bundle import Bundle, BundleError
from service.batcher import Batcher
from service.engine import Engine, Outcome, Picture
from service.errors import Kind, Problem
from service.lane import Lane, plan_for
from service.metrics import Metrics
from service.settings import Settings
from service.tuning import Plan

log = structlog.stdlib.get_logger("anomoe.models")


@dataclass(frozen=True)
class Model:
    """One bundle in service."""

    bundle: Bundle
    lane: Lane[Picture, Outcome]

    @property
    def batcher(self) -> Batcher[Picture, Outcome]:
        """What computes its pictures."""
        return self.lane.batcher


class Models:
    """Every model in service, in the order of the settings; at least one."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.all = tuple(models)

    def choose(self, category: str | None) -> Model:
        """The first model that knows the category; the first of all when none is named.

        Raises: Problem (404) when no model knows the category.
        """
        if category is None:
            return self.all[0]
        for model in self.all:
            if category in model.bundle.categories:
                return model
        known = sorted({name for model in self.all for name in model.bundle.categories})
        raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {category!r} is none of {', '.join(known)}")

    def queue_depth(self) -> int:
        """Pictures that wait for their turn or a device."""
        return sum(model.lane.depth for model in self.all)

    def pace_s(self) -> float:
        """Seconds a picture of the slowest model takes, as measured at the start."""
        return max(model.lane.plan.pace_s for model in self.all)

    def swap(self, others: "Models") -> tuple[list[Model], list[Model]]:
        """Take the others' models at once; gives those that are new and those that have left."""
        new = [model for model in others.all if model not in self.all]
        left = [model for model in self.all if model not in others.all]
        self.all = others.all
        return new, left

    def publish(self, metrics: Metrics) -> None:
        """Tell the metrics which models and products there are."""
        metrics.model_info.clear()
        metrics.calibration_size.clear()
        for model in self.all:
            manifest = model.bundle.manifest
            info = (manifest.name, manifest.version, manifest.kind, model.bundle.digest)
            metrics.model_info.labels(*info).set(1)
            for name, category in model.bundle.categories.items():
                metrics.calibration_size.labels(name).set(len(category.scores))


def load_models(settings: Settings, metrics: Metrics, serving: Sequence[Model] = ()) -> Models:
    """Load, check and warm up every bundle of the settings, and log how long each part took.

    serving: models at work. One whose bundle is the same and whose threads are well is taken over as it is;
    a bundle of the same name takes over its plan, since a busy device cannot be measured.
    Raises: BundleError or GraphError naming the file or graph; FileNotFoundError without any bundle.
    """
    started = perf_counter()
    models = Models([_load(folder, settings, metrics, serving) for folder in settings.bundle_folders()])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def _load(folder: Path, settings: Settings, metrics: Metrics, serving: Sequence[Model]) -> Model:
    started = perf_counter()
    bundle = Bundle.read(folder)
    manifest = bundle.manifest
    if manifest.kind != "anomalymoe":
        raise BundleError(f"{folder}: kind {manifest.kind!r} cannot be served, only 'anomalymoe'")
    plan: Plan | None = None
    for model in serving:
        if model.bundle.digest == bundle.digest and model.lane.workers.failure is None:
            return model
        if model.bundle.manifest.name == manifest.name:
            plan = model.lane.plan
    # What is measured is warm then, and more would only make the runtime keep more memory.
    warm_batch = plan.batch if plan else 1 if settings.tune_s else settings.max_batch
    engine = Engine(bundle, device=settings.device, threads=settings.threads, max_batch=warm_batch)
    loaded = perf_counter()
    engine.warm_up()
    warm = perf_counter()
    plan = plan or plan_for(engine, _samples(bundle, settings.max_batch), settings)
    log.info(
        "model loaded",
        folder=str(folder),
        name=manifest.name,
        version=manifest.version,
        load_s=round(loaded - started, 3),
        warm_up_s=round(warm - loaded, 3),
        tune_s=_since(warm),
        batch=plan.batch,
        parallel=plan.parallel,
        ms_per_picture=round(plan.seconds_per_item * 1000, 2),
        ms_per_batch=round(plan.seconds_fixed * 1000, 2),
    )
    return Model(bundle, Lane(engine, engine.warm_up, plan, settings, metrics))


def _samples(bundle: Bundle, count: int) -> list[Picture]:
    """Noise of different colours, so that the router spreads it over the experts as it does pictures."""
    rng = np.random.default_rng(0)
    size = (bundle.manifest.input.height, bundle.manifest.input.width, 3)
    highest = rng.integers(32, 256, (count, 3))
    return [Picture(rng.integers(0, high, size, np.uint8)) for high in highest]


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
