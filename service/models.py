"""The models in service: each bundle with its engine and its batcher, and which one answers a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from export.contract.bundle import Bundle
from service.batcher import Batcher
from service.engine import Engine, Outcome, Picture
from service.errors import Kind, Problem
from service.metrics import Metrics
from service.settings import Settings
from service.zero_shot.engine import ZeroShotEngine
from service.zero_shot.model import ZeroShotModel, serve_zero_shot

log = structlog.stdlib.get_logger("anomoe.models")


@dataclass(frozen=True)
class Model:
    """One anomalymoe bundle in service."""

    bundle: Bundle
    batcher: Batcher[Picture, Outcome]


class Models:
    """Every model in service, in the order of the settings; at least one."""

    def __init__(self, models: Sequence[Model | ZeroShotModel]) -> None:
        self.all = tuple(models)
        self._trained = [model for model in models if isinstance(model, Model)]
        self._zero_shot = [model for model in models if isinstance(model, ZeroShotModel)]

    def choose(self, category: str | None) -> Model:
        """The first model that knows the category; the first of its kind when none is named.

        Raises: Problem (404) when no model knows the category, or none was trained on products.
        """
        if not self._trained:
            raise Problem(
                Kind.UNKNOWN_MODEL, "no bundle of kind anomalymoe is served, only /zero-shot answers"
            )
        if category is None:
            return self._trained[0]
        for model in self._trained:
            if category in model.bundle.categories:
                return model
        known = sorted({name for model in self._trained for name in model.bundle.categories})
        raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {category!r} is none of {', '.join(known)}")

    def zero_shot(self) -> ZeroShotModel:
        """The first model that takes class names.

        Raises: Problem (404) when there is none.
        """
        if not self._zero_shot:
            raise Problem(Kind.UNKNOWN_MODEL, "no bundle of kind moeclip is served, only /detect answers")
        return self._zero_shot[0]

    def queue_depth(self) -> int:
        """Pictures that wait for a device."""
        return sum(model.batcher.depth for model in self.all)

    def start(self) -> None:
        """Begin to compute; needs a running event loop."""
        for batcher in self._batchers():
            batcher.start()

    async def stop(self) -> None:
        """Finish what waits, then stop computing."""
        for batcher in self._batchers():
            await batcher.stop()

    def _batchers(self) -> list[Batcher[Any, Any]]:
        return [*(model.batcher for model in self.all), *(model.names for model in self._zero_shot)]


def load_models(settings: Settings, metrics: Metrics) -> Models:
    """Load and warm up every bundle of the settings, and log how long each part took.

    Raises: BundleError or GraphError naming the file or graph; FileNotFoundError without any bundle.
    """
    started = perf_counter()
    models = Models([_load(folder, settings, metrics) for folder in settings.bundle_folders()])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def _load(folder: Path, settings: Settings, metrics: Metrics) -> Model | ZeroShotModel:
    started = perf_counter()
    bundle = Bundle.read(folder)
    manifest = bundle.manifest
    kind = ZeroShotEngine if manifest.kind == "moeclip" else Engine
    engine = kind(bundle, device=settings.device, threads=settings.threads, max_batch=settings.max_batch)
    loaded = perf_counter()
    engine.warm_up()
    log.info(
        "model loaded",
        folder=str(folder),
        name=manifest.name,
        version=manifest.version,
        load_s=round(loaded - started, 3),
        warm_up_s=_since(loaded),
    )
    metrics.model_info.labels(manifest.name, manifest.version, manifest.kind, bundle.digest).set(1)
    if isinstance(engine, ZeroShotEngine):
        return serve_zero_shot(bundle, engine, settings, metrics)
    return _serve(bundle, engine, settings, metrics)


def _serve(bundle: Bundle, engine: Engine, settings: Settings, metrics: Metrics) -> Model:
    for name, category in bundle.categories.items():
        metrics.calibration_size.labels(name).set(len(category.scores))

    def compute(pictures: list[Picture]) -> list[Outcome | Exception]:
        metrics.batch_size.observe(len(pictures))
        return engine.run(pictures)

    return Model(bundle, Batcher(compute, settings.max_batch))


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
