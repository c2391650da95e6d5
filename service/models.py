"""The models in service: each bundle with its way to the device, and which one answers a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from export.contract.bundle import Bundle
from export.contract.manifest import ModelKind
from service.engine import Engine, Outcome, Picture
from service.errors import Kind, Problem, shown
from service.lane import ModelPipeline
from service.metrics import Metrics
from service.resting import Rest, no_rest
from service.settings import Settings
from service.tuned import AnyEngine, Tuned, tune
from service.tuning import Plan
from service.turnstile import FairQueue
from service.workers import Stage
from service.zero_shot.engine import Finding, Question, ZeroShotEngine
from service.zero_shot.model import ZeroShotModel, name_batcher

PAIRED_BYTES = 2**29  # of a bundle that may be held twice, on more and on fewer threads

log = structlog.stdlib.get_logger("anomoe.models")


@dataclass(frozen=True)
class Model:
    """One anomalymoe bundle in service."""

    bundle: Bundle
    engine: Engine
    lane: ModelPipeline[Picture, Outcome]

    @property
    def depth(self) -> int:
        """How many pictures wait, for their turn or for the device."""
        return self.lane.depth

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Whatever works for it."""
        return self.lane.stages

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
        raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {shown(category)} is none of {', '.join(known)}")

    def zero_shot(self) -> ZeroShotModel:
        """The first model that takes class names.

        Raises: Problem (404) when there is none.
        """
        for model in self.all:
            if isinstance(model, ZeroShotModel):
                return model
        raise Problem(Kind.UNKNOWN_MODEL, "no bundle of kind moeclip is served, only /detect answers")

    def queue_depth(self) -> int:
        """Pictures and class names that wait for their turn or a device."""
        return sum(model.depth for model in self.all)

    def wait_s(self, kind: ModelKind, client: str) -> float:
        """Seconds until the model of this kind that has least to do would answer a client's next picture."""
        lanes = (model.lane for model in self.all if model.bundle.manifest.kind == kind)
        return min((lane.wait_s(client) for lane in lanes), default=0.0)

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
        for model in reversed(self.all):  # of several that know a product the first answers
            manifest = model.bundle.manifest
            info = (manifest.name, manifest.version, manifest.kind, model.bundle.digest)
            metrics.model_info.labels(*info).set(1)
            for name, category in model.bundle.categories.items():
                metrics.calibration_size.labels(name).set(len(category.scores))


def load_models(
    settings: Settings, metrics: Metrics, serving: Sequence[AnyModel] = (), rest: Rest = no_rest
) -> Models:
    """Load, check and warm up every bundle of the settings, and log how long each part took.

    serving: models at work. One whose bundle is the same and whose threads are well is taken over as it is;
    a bundle of the same name takes over its plan, since a busy device cannot be measured.
    rest: called after each graph, and each warm-up by a plan that is taken over.
    Raises: what `rest` raises; BundleError or GraphError naming the file or graph; FileNotFoundError without
    any bundle.
    """
    started = perf_counter()
    folders = settings.bundle_folders()
    models = Models([_load(folder, settings, metrics, serving, rest) for folder in folders])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def _load(
    folder: Path, settings: Settings, metrics: Metrics, serving: Sequence[AnyModel], rest: Rest
) -> AnyModel:
    started = perf_counter()
    bundle = Bundle.read(folder)
    plan: Plan | None = None
    for model in serving:
        is_well = all(stage.failure is None for stage in model.stages)
        if model.bundle.digest == bundle.digest and is_well:
            return model
        if model.bundle.manifest.name == bundle.manifest.name:
            plan = model.lane.plan
    return _Loading(bundle, plan, settings, metrics, started, rest).model()


@dataclass(frozen=True)
class _Loading:
    """A bundle on its way into service; plan: that of the model it replaces. rest: called after each part."""

    bundle: Bundle
    plan: Plan | None
    settings: Settings
    metrics: Metrics
    started: float
    rest: Rest

    def model(self) -> AnyModel:
        bundle, settings, metrics = self.bundle, self.settings, self.metrics
        if bundle.manifest.kind == "moeclip":
            zero_shot = self._tuned(ZeroShotEngine)
            tower = zero_shot.engine.tower
            lane: ModelPipeline[Question, Finding] = ModelPipeline(zero_shot, settings, metrics)
            names, turns = name_batcher(tower, settings, metrics), FairQueue(2 * tower.names_at_once)
            return ZeroShotModel(bundle, zero_shot.engine, lane, names, turns)
        tuned = self._tuned(Engine)
        return Model(bundle, tuned.engine, ModelPipeline(tuned, settings, metrics))

    def _tuned(self, kind: Callable[..., AnyEngine]) -> Tuned[AnyEngine]:
        read = perf_counter()
        manifest = self.bundle.manifest
        size = sum(file.bytes for file in manifest.files.values())
        # torch has one number of threads for all; weights that are large are not held twice.
        search = "none" if manifest.format == "torchscript" else "pair" if size < PAIRED_BYTES else "one"

        def opened(threads: int) -> AnyEngine:
            return kind(self.bundle, device=self.settings.device, threads=threads, rest=self.rest)

        tuned = tune(opened, self.settings, self.plan, search, self.rest)
        plan = tuned.plan
        log.info(
            "model loaded",
            folder=str(self.bundle.folder),
            name=manifest.name,
            version=manifest.version,
            read_s=round(read - self.started, 3),
            tuned_s=_since(read),
            batch=plan.batch,
            parallel=plan.parallel,
            threads=plan.threads,
            threads_shared=plan.threads_shared or plan.threads,
            ms_alone=round(plan.alone_s * 1000, 2),
            ms_per_picture=round(plan.pace_s * 1000, 2),
        )
        return tuned


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
