"""From a checkpoint to a bundle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from export.bundles.active import Selection, select, with_experts
from export.contract.bundle import Bundle, write_bundle
from export.contract.manifest import CalibrationSpec, Manifest
from export.contract.preprocess import Pixels
from export.formats.forms import Form, make_exporter
from export.formats.graph_file import GraphFile
from export.graphs.anomalymoe import detector_parts, example_tensors, part_inputs
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.head import Head

BATCH = 8


@dataclass(frozen=True, eq=False)
class Choice:
    """What a bundle is to be: its form, and how much of the run it carries.

    categories: all when None. keep_unused: experts that no calibration picture chose, too.
    normal: pictures (n, H, W, 3) that int8-static is calibrated on.
    """

    form: Form = field(default_factory=Form)
    categories: tuple[str, ...] | None = None
    keep_unused: bool = False
    normal: Pixels | None = None


WHOLE = Choice()


def build_bundle(
    checkpoint: Checkpoint,
    output: Path,
    name: str,
    version: str,
    choice: Choice = WHOLE,
    on_graph: Callable[[str], None] = lambda _key: None,
) -> Bundle:
    """Export the graphs of a checkpoint and write the bundle; an older one at `output` is replaced.

    on_graph: told the key of each graph when it is done. Raises ValueError for a choice that cannot be had,
    BundleError when the bundle cannot be read back.
    """
    selection = select(
        checkpoint.detector, checkpoint.categories, choice.categories, keep_unused=choice.keep_unused
    )
    graphs = _export_graphs(checkpoint, selection, choice, on_graph)
    manifest = _manifest(checkpoint, selection, choice.form, graphs).model_copy(
        update={"name": name, "version": version}
    )
    files = {path: data for graph in graphs.values() for path, data in graph.files.items()}
    return write_bundle(output, manifest, files, selection.categories.values())


def _export_graphs(
    checkpoint: Checkpoint, selection: Selection, choice: Choice, on_graph: Callable[[str], None]
) -> dict[str, GraphFile]:
    detector = with_experts(checkpoint.detector, selection.columns).eval()
    calibration = () if choice.normal is None else _calibration(detector, choice.normal)
    export = make_exporter(choice.form, calibration)
    examples = example_tensors(detector, batch=3, rows=(2, 0))
    graphs = {}
    head = Head(checkpoint.config.map_size, detector.encoder.grid)
    for part in detector_parts(detector, head, selection.experts):
        graphs[part.key] = export(part, examples)
        on_graph(part.key)
    return graphs


def _calibration(detector: AnomalyMoE, normal: Pixels) -> Iterator[dict[str, Tensor]]:
    """Graph inputs of every normal picture; each has chosen every expert."""
    for start in range(0, len(normal), BATCH):
        pictures = torch.from_numpy(normal[start : start + BATCH])
        yield part_inputs(detector, pictures, tuple(range(len(pictures))))


def _manifest(
    checkpoint: Checkpoint, selection: Selection, form: Form, graphs: dict[str, GraphFile]
) -> Manifest:
    config = checkpoint.config
    return Manifest(
        kind="anomalymoe",
        name="-",
        version="-",
        created=datetime.now(timezone.utc).replace(microsecond=0),
        source={"backbone": config.backbone, "training_steps": config.train.steps},
        format=form.format,
        precision=form.precision,
        input=config.input,
        graphs={key: graph.spec for key, graph in graphs.items()},
        experts=selection.experts,
        top_k=config.detector.router.top_k,
        grid=checkpoint.detector.encoder.grid,
        map_size=config.map_size,
        categories=tuple(selection.categories),
        calibration=CalibrationSpec(alpha=config.calibration.alpha),
        left_out=selection.left_out,
    )
