"""The models in service: each bundle with its way to the device, and which one answers a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from export.contract.bundle import Bundle
from export.contract.manifest import ModelKind
from service.errors import Kind, Problem, shown
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.inference.moeclip import Finding, Question, ZeroShotEngine
from service.metrics import Metrics
from service.models.pipeline import ModelPipeline
from service.models.text_queue import ZeroShotModel, name_batcher
from service.scheduling.fair_queue import FairQueue
from service.scheduling.stage import Stage
from service.settings import Settings
from service.throttle import Rest, no_rest
from service.tuning.measurement import measure
from service.tuning.plan import Plan, described
from service.tuning.search import AnyEngine, Opener, Tunable, Tuned, open_tuned
from service.tuning.stored_plans import digest_of_graphs, read_plan

PAIRED_BYTES = 2**29  # of a bundle that may be held twice, on more and on fewer threads

EngineKind = Callable[..., AnyEngine]

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

    def candidates(self, category: str | None) -> Sequence[Model]:
        """The first model that knows the category; all that were trained on products when none is named.

        Raises: Problem (404) when no model knows the category, or none was trained on products.
        """
        trained = [model for model in self.all if isinstance(model, Model)]
        if not trained:
            detail = "no bundle of kind anomalymoe is served, only /zero-shot answers"
            raise Problem(Kind.UNKNOWN_MODEL, detail)
        if category is None:
            return trained
        for model in trained:
            if category in model.bundle.categories:
                return [model]
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
            experts = ((expert.level, expert.index) for expert in manifest.experts)
            metrics.expect(model.bundle.categories, experts)
            for name, category in model.bundle.categories.items():
                metrics.calibration_size.labels(name).set(len(category.scores))


def load_models(
    settings: Settings, metrics: Metrics, serving: Sequence[AnyModel] = (), rest: Rest = no_rest
) -> Models:
    """Load, check and warm up every bundle of the settings, and log how long each part took.

    serving: models at work. One whose bundle is the same and whose threads are well is taken over as it is;
    one of the same graphs or name hands on its plan, since a busy device cannot be measured.
    rest: called after each graph, and each warm-up by a plan that is taken over.
    Raises: what `rest` raises; BundleError or GraphError naming the file or graph; FileNotFoundError without
    any bundle.
    """
    started = perf_counter()
    folders = settings.bundle_folders()
    models = Models([_load(folder, settings, metrics, serving, rest) for folder in folders])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def measure_bundle(bundle: Bundle, settings: Settings) -> Plan:
    """What `anomoe tune` stores for a bundle. Raises BundleError or GraphError."""
    kind: EngineKind[Tunable] = ZeroShotEngine if bundle.manifest.kind == "moeclip" else Engine
    return measure(_opener(kind, bundle, settings, no_rest), settings, is_single=_is_held_once(bundle))


def _load(
    folder: Path, settings: Settings, metrics: Metrics, serving: Sequence[AnyModel], rest: Rest
) -> AnyModel:
    started = perf_counter()
    bundle = Bundle.read(folder)
    for model in serving:
        is_well = all(stage.failure is None for stage in model.stages)
        if model.bundle.digest == bundle.digest and is_well:
            return model
    known = _known_plan(bundle, settings, serving)
    read = perf_counter()

    def opened(kind: EngineKind[AnyEngine]) -> Tuned[AnyEngine]:
        opener = _opener(kind, bundle, settings, rest)
        return open_tuned(opener, settings, known, is_single=_is_held_once(bundle), rest=rest)

    if bundle.manifest.kind == "moeclip":
        zero_shot = opened(ZeroShotEngine)
        tower = zero_shot.engine.tower
        lane: ModelPipeline[Question, Finding] = ModelPipeline(zero_shot, settings, metrics)
        names, turns = name_batcher(tower, settings, metrics), FairQueue(2 * tower.names_at_once)
        model = ZeroShotModel(bundle, zero_shot.engine, lane, names, turns)
    else:
        tuned = opened(Engine)
        model = Model(bundle, tuned.engine, ModelPipeline(tuned, settings, metrics))
    log.info(
        "model loaded",
        folder=str(folder),
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        read_s=round(read - started, 3),
        opened_s=_since(read),
        **described(model.lane.plan),
    )
    return model


def _known_plan(bundle: Bundle, settings: Settings, serving: Sequence[AnyModel]) -> Plan | None:
    """Of a model at work with the same graphs, else what is stored, else of a model of the same name."""
    graphs = digest_of_graphs(bundle)
    same_graphs = [one.lane.plan for one in serving if digest_of_graphs(one.bundle) == graphs]
    same_name = [one.lane.plan for one in serving if one.bundle.manifest.name == bundle.manifest.name]
    if not same_graphs and (stored := read_plan(bundle, settings)):
        return stored
    for plan in same_graphs + same_name:
        return plan.model_copy(update={"source": "reload"})
    return None


def _opener(kind: EngineKind[AnyEngine], bundle: Bundle, settings: Settings, rest: Rest) -> Opener[AnyEngine]:
    return lambda threads: kind(bundle, device=settings.device, threads=threads, rest=rest)


def _is_held_once(bundle: Bundle) -> bool:
    """Large weights are not held twice, and torch has one number of threads for all."""
    size = sum(file.bytes for file in bundle.manifest.files.values())
    return bundle.manifest.format == "torchscript" or size >= PAIRED_BYTES


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
