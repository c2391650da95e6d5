"""Bundles read, tuned and warmed up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import structlog

from export.contract.bundle import Bundle
from service.inference.anomalymoe import Engine
from service.inference.backends.loading import misses_gpu
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput, ZeroShotOutcome
from service.metrics import Metrics
from service.models.model import AnyModel, Model, ZeroShotModel
from service.models.pipeline import ModelPipeline
from service.models.registry import ModelRegistry
from service.models.text_queue import name_batcher
from service.scheduling.fair_queue import FairQueue
from service.settings import Settings
from service.throttle import Pause, no_pause
from service.tuning.measurement import measure
from service.tuning.plan import Plan, described
from service.tuning.search import AnyEngine, Opener, Tunable, TunedEngine, open_tuned
from service.tuning.stored_plans import digest_of_graphs, read_plan

PAIRED_BYTES = 2**29  # of a bundle that may be held twice, on more and on fewer threads

EngineKind = Callable[..., AnyEngine]

log = structlog.stdlib.get_logger("anomoe.loading")


def load_models(
    settings: Settings, metrics: Metrics, serving: Sequence[AnyModel] = (), rest: Pause = no_pause
) -> ModelRegistry:
    """Load, check and warm up every bundle of the settings, and log how long each part took.

    serving: models at work. One whose bundle is the same and whose threads are well is taken over as it is;
    one of the same graphs or name hands on its plan, since a busy device cannot be measured.
    rest: called after each graph, and each warm-up by a plan that is taken over.
    Raises: what `rest` raises; BundleError or GraphError naming the file or graph; FileNotFoundError without
    any bundle.
    """
    started = perf_counter()
    folders = settings.bundle_folders()
    models = ModelRegistry([_load(folder, settings, metrics, serving, rest) for folder in folders])
    log.info("models ready", models=len(models.all), total_s=_since(started))
    return models


def measure_bundle(bundle: Bundle, settings: Settings) -> Plan:
    """What `anomoe tune` stores for a bundle. Raises BundleError or GraphError."""
    kind: EngineKind[Tunable] = ZeroShotEngine if bundle.manifest.kind == "moeclip" else Engine
    return measure(_opener(kind, bundle, settings, no_pause), settings, is_single=_is_held_once(bundle))


def _load(
    folder: Path, settings: Settings, metrics: Metrics, serving: Sequence[AnyModel], rest: Pause
) -> AnyModel:
    started = perf_counter()
    bundle = Bundle.read(folder)
    for model in serving:
        is_well = all(stage.failure is None for stage in model.stages)
        if model.bundle.digest == bundle.digest and is_well:
            return model
    known = _known_plan(bundle, settings, serving)
    read = perf_counter()

    def opened(kind: EngineKind[AnyEngine]) -> TunedEngine[AnyEngine]:
        opener = _opener(kind, bundle, settings, rest)
        return open_tuned(opener, settings, known, is_single=_is_held_once(bundle), rest=rest)

    if bundle.manifest.kind == "moeclip":
        zero_shot = opened(ZeroShotEngine)
        tower = zero_shot.engine.tower
        pipeline: ModelPipeline[ZeroShotInput, ZeroShotOutcome] = ModelPipeline(zero_shot, settings, metrics)
        names, turns = name_batcher(tower, settings, metrics), FairQueue(2 * tower.names_at_once)
        is_missing = misses_gpu(bundle, settings.device, zero_shot.engine.device)
        model = ZeroShotModel(bundle, zero_shot.engine, pipeline, names, turns, is_missing)
    else:
        tuned = opened(Engine)
        is_missing = misses_gpu(bundle, settings.device, tuned.engine.device)
        model = Model(bundle, tuned.engine, ModelPipeline(tuned, settings, metrics), is_missing)
    if model.misses_gpu:
        log.warning(
            "the CPU computes, though the machine or the runtime is one for GPUs",
            setting="ANOMOE_DEVICE=cuda",
        )
    log.info(
        "model loaded",
        folder=str(folder),
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        device=model.engine.device,
        read_s=round(read - started, 3),
        opened_s=_since(read),
        **described(model.pipeline.plan),
    )
    return model


def _known_plan(bundle: Bundle, settings: Settings, serving: Sequence[AnyModel]) -> Plan | None:
    """Of a model at work with the same graphs, else what is stored, else of a model of the same name."""
    graphs = digest_of_graphs(bundle)
    same_graphs = [one.pipeline.plan for one in serving if digest_of_graphs(one.bundle) == graphs]
    same_name = [one.pipeline.plan for one in serving if one.bundle.manifest.name == bundle.manifest.name]
    if not same_graphs and (stored := read_plan(bundle, settings)):
        return stored
    for plan in same_graphs + same_name:
        return plan.model_copy(update={"source": "reload"})
    return None


def _opener(
    kind: EngineKind[AnyEngine], bundle: Bundle, settings: Settings, rest: Pause
) -> Opener[AnyEngine]:
    return lambda threads: kind(bundle, device=settings.device, threads=threads, rest=rest)


def _is_held_once(bundle: Bundle) -> bool:
    """Large weights are not held twice, and torch has one number of threads for all."""
    size = sum(file.bytes for file in bundle.manifest.files.values())
    return bundle.manifest.format == "torchscript" or size >= PAIRED_BYTES


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)
