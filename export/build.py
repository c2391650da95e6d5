"""From a checkpoint to a bundle."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from export.contract.bundle import Bundle, write_bundle
from export.contract.manifest import CalibrationSpec, ExpertSpec, Manifest
from export.graphs import detector_parts, example_tensors
from export.onnx import export_onnx
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.head import Head
from training.checkpoint import Checkpoint


def expert_specs(detector: AnomalyMoE) -> tuple[ExpertSpec, ...]:
    """Every expert of a detector in router order, numbered within its level."""
    specs = []
    for column, level in enumerate(detector.levels):
        index = column - detector.levels.index(level)
        specs.append(ExpertSpec(level=level, index=index, column=column, graph=f"expert-{level}-{index}"))
    return tuple(specs)


def build_bundle(
    checkpoint: Checkpoint,
    output: Path,
    name: str,
    version: str,
    on_graph: Callable[[str], None] = lambda _key: None,
) -> Bundle:
    """Export every graph of a checkpoint and write the bundle; an older one at `output` is replaced.

    on_graph: told the key of each graph when it is done. Raises BundleError when it cannot be read back.
    """
    config, detector = checkpoint.config, checkpoint.detector
    experts = expert_specs(detector)
    examples = example_tensors(detector, batch=3, rows=(2, 0))
    graphs = {}
    for part in detector_parts(detector, Head(config.map_size), experts):
        graphs[part.key] = export_onnx(part, examples)
        on_graph(part.key)
    manifest = Manifest(
        kind="anomalymoe",
        name=name,
        version=version,
        created=datetime.now(timezone.utc).replace(microsecond=0),
        source={"backbone": config.backbone, "training_steps": config.train.steps},
        input=config.input,
        graphs={key: graph.spec for key, graph in graphs.items()},
        experts=experts,
        top_k=config.detector.router.top_k,
        grid=detector.encoder.grid,
        map_size=config.map_size,
        categories=tuple(checkpoint.categories),
        calibration=CalibrationSpec(alpha=config.calibration.alpha),
    )
    models = {graph.spec.path: graph.model for graph in graphs.values()}
    return write_bundle(output, manifest, models, checkpoint.categories.values())
