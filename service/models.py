"""The models in service: each bundle with its way to the device, and which one answers a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeVar

import numpy as np
import structlog

from export.contract.bundle import Bundle
from service.batcher import Batcher
from service.engine import Engine, Outcome, Picture
from service.errors import Kind, Problem
from service.lane import Computes, Item_contra, Lane, Result_co, Stage, plan_for
from service.metrics import Metrics
from service.settings import Settings
from service.tuning import Plan
from service.zero_shot.engine import ZeroShotEngine
from service.zero_shot.model import ZeroShotModel, name_batcher

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.stdlib.get_logger("anomoe.models")


@dataclass(frozen=True)
class Model:
    """One anomalymoe bundle in service."""

    bundle: Bundle
    lane: Lane[Picture, Outcome]

    @property
    def batcher(self) -> Batcher[Picture, Outcome]:
        """What computes its pictures."""
        return self.lane.batcher

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Whatever computes for it."""
        return (Stage(self.lane.batcher, self.lane.probe),)

    async def retire(self) -> None:
        """Stop computing once every picture that came here has its answer."""
        await self.lane.retire()


AnyModel = Model | ZeroShotModel


class Models:
    """Every model in service, in the order of the settings; at least one."""

    def __init__(self, models: Sequence[AnyModel]) -> None:
        self.all = tuple(models)

    def choose(self, category: str | None) -> Model:
        """The first model that knows the category; the first trained on products when none is named.

        Raises: Problem (404) when no model knows the category, or none was trained on products.
        """
        trained = [model for model in self.all if isinstance(model, Model)]
        if not trained:
            detail = "no bundle of kind anomalymoe is served, only /zero-shot answers"
            raise Problem(Kind.UNKNOWN_MODEL, detail)
        if category is None:
            return trained[0]
        for model in trained:
            if category in model.bundle.categories:
                return model
        known = sorted({name for model in trained for name in model.bundle.categories})
        raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {category!r} is none of {', '.join(known)}")

    def zero_shot(self) -> ZeroShotModel:
        """The first model that takes class names.

        Raises: Problem (404) when there is none.
        """
        for model in self.all:
            if isinstance(model, ZeroShotModel):
                return model
        raise Problem(Kind.UNKNOWN_MODEL, "no bundle of kind moeclip is served, only /detect answers")

    def queue_depth(self) -> int:
        """Pictures that wait for their turn or a device."""
        return sum(model.lane.depth for model in self.all)

    def pace_s(self) -> float:
        """Seconds a picture of the slowest model takes, as measured at the start."""
        return max(model.lane.plan.pace_s for model in self.all)

    def swap(self, others: "Models") -> tuple[list[AnyModel], list[AnyModel]]:
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


def load_models(settings: Settings, metrics: Metrics, serving: Sequence[AnyModel] = ()) -> Models:
    """Load, check and warm up every bundle of the settings, and log how long each part took.

    serving: models at work. One whose bundle is the same and whose threads are well is taken over as it is;
    a bundle of the same name takes over its plan, since a busy device cannot be measured.
    Raises: BundleError or GraphError naming the file or graph; FileNotFoundError without any bundle.
    """
    started = perf_counter()
    models = Models([_load(folder, settings, metrics, serving) for folder in settings.bundle_folders()])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def _load(folder: Path, settings: Settings, metrics: Metrics, serving: Sequence[AnyModel]) -> AnyModel:
    started = perf_counter()
    bundle = Bundle.read(folder)
    plan: Plan | None = None
    for model in serving:
        is_well = all(batcher.workers.failure is None for batcher, _ in model.stages)
        if model.bundle.digest == bundle.digest and is_well:
            return model
        if model.bundle.manifest.name == bundle.manifest.name:
            plan = model.lane.plan
    return _Loading(bundle, plan, settings, metrics, started).model()


class _Engine(Computes[Item_contra, Result_co], Protocol):
    def warm_up(self) -> None: ...


@dataclass(frozen=True)
class _Loading:
    """A bundle on its way into service; plan: that of the model it replaces."""

    bundle: Bundle
    plan: Plan | None
    settings: Settings
    metrics: Metrics
    started: float

    def model(self) -> AnyModel:
        settings = self.settings
        kind = ZeroShotEngine if self.bundle.manifest.kind == "moeclip" else Engine
        # What is measured is warm then, and more would only make the runtime keep more memory.
        warm_batch = self.plan.batch if self.plan else 1 if settings.tune_s else settings.max_batch
        engine = kind(self.bundle, device=settings.device, threads=settings.threads, max_batch=warm_batch)
        if isinstance(engine, Engine):
            return Model(self.bundle, self._lane(engine, partial(_samples, self.bundle)))
        lane = self._lane(engine, engine.samples)
        return ZeroShotModel(
            self.bundle, lane, engine.tower, name_batcher(engine.tower, settings, self.metrics)
        )

    def _lane(
        self, engine: _Engine[Item, Result], samples: Callable[[int], Sequence[Item]]
    ) -> Lane[Item, Result]:
        loaded = perf_counter()
        engine.warm_up()
        warm = perf_counter()
        plan = self.plan or plan_for(engine, samples(self.settings.max_batch), self.settings)
        log.info(
            "model loaded",
            folder=str(self.bundle.folder),
            name=self.bundle.manifest.name,
            version=self.bundle.manifest.version,
            load_s=round(loaded - self.started, 3),
            warm_up_s=round(warm - loaded, 3),
            tune_s=_since(warm),
            batch=plan.batch,
            parallel=plan.parallel,
            ms_per_picture=round(plan.seconds_per_item * 1000, 2),
            ms_per_batch=round(plan.seconds_fixed * 1000, 2),
        )
        return Lane(engine, engine.warm_up, plan, self.settings, self.metrics)


def _samples(bundle: Bundle, count: int) -> list[Picture]:
    """Noise of different colours, so that the router spreads it over the experts as it does pictures."""
    rng = np.random.default_rng(0)
    size = (bundle.manifest.input.height, bundle.manifest.input.width, 3)
    highest = rng.integers(32, 256, (count, 3))
    return [Picture(rng.integers(0, high, size, np.uint8)) for high in highest]


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
