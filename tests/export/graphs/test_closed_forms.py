"""Experts in closed form as graphs: both formats compute what the detector does, whatever the batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.bundles.active import expert_specs
from export.contract.provenance import Format
from export.formats.forms import Form, make_exporter
from export.graphs.anomalymoe import detector_parts, example_tensors, part_inputs
from service.inference.backends.base import Graph
from service.inference.backends.onnx import OnnxGraph
from service.inference.backends.torchscript import TorchScriptGraph
from tests.training.tiny_run import GRID, PRODUCTS, SIZE, Pictures, normal_pictures, tiny_config
from training.anomalymoe.calibration.knowledge import learn_product
from training.anomalymoe.checkpoint import build_detector
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    GaussiansConfig,
    GlobalConfig,
    PartConfig,
    PatchConfig,
    RouterConfig,
    SubspaceConfig,
)
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.head import Head
from training.anomalymoe.warm_start import encode_pictures, fit_closed_forms, start_router
from training.backbones.offline.encoder import OfflineEncoder
from training.backbones.offline.pretext import normalise

GRAPHS = ("expert-patch-0", "expert-component-0", "expert-global-0", "head")


@pytest.fixture(scope="module")
def detector() -> AnomalyMoE:
    """Fitted to the pictures of both products."""
    torch.manual_seed(0)
    sections: dict[str, Any] = {
        "router": RouterConfig(hidden=None, top_k=3, selection="per_level"),
        "patch": PatchConfig(count=1, gaussians=GaussiansConfig(count=4, channels=8)),
        "component": ComponentConfig(count=1, parts=PartConfig(size=40, channels=4)),
        "global_": GlobalConfig(count=1, subspace=SubspaceConfig(channels=4, code=3)),
    }
    detector = build_detector(tiny_config(detector=AnomalyMoEConfig(**sections))).eval()
    assert isinstance(detector.encoder, OfflineEncoder)
    pixels = np.concatenate([normal_pictures(name, 8) for name in PRODUCTS])
    detector.encoder.standardise([normalise(pixels)])
    encoded, products = encode_pictures(detector, pixels), torch.arange(2).repeat_interleave(8)
    start_router(detector, encoded.cls, products)
    known = learn_product(detector, pixels, components=4)
    fit_closed_forms(
        detector, pixels, products, encoded, lambda rows: stack_centres([known.centres] * len(rows))
    )
    return detector


def feeds(detector: AnomalyMoE, batch: int, rows: tuple[int, ...]) -> dict[str, Tensor]:
    return part_inputs(detector, torch.from_numpy(normal_pictures("disc", batch, first_seed=50)), rows)


@pytest.fixture(scope="module", params=["onnx", "torchscript"])
def graphs(detector: AnomalyMoE, request: pytest.FixtureRequest) -> dict[str, Graph]:
    kind: Format = request.param
    export = make_exporter(Form(kind))
    examples = example_tensors(detector, batch=3, rows=(2, 0))
    opened: dict[str, Graph] = {}
    for part in detector_parts(detector, Head((SIZE, SIZE), GRID), expert_specs(detector)):
        if part.key in GRAPHS:
            file = export(part, examples)
            data = file.files[file.spec.path]
            opened[part.key] = (
                OnnxGraph(data, "cpu", 1) if kind == "onnx" else TorchScriptGraph(data, file.spec, "cpu", 1)
            )
    return opened


@pytest.mark.parametrize("key", GRAPHS)
def test_a_graph_computes_what_the_detector_does(
    detector: AnomalyMoE, graphs: dict[str, Graph], key: str
) -> None:
    parts = {
        one.key: one for one in detector_parts(detector, Head((SIZE, SIZE), GRID), expert_specs(detector))
    }
    for batch, rows in ((1, (0,)), (3, (1, 2, 0)), (8, (7, 3))):
        tensors = feeds(detector, batch, rows)
        inputs = {name: tensors[name] for name in parts[key].inputs}
        with torch.no_grad():
            outputs = parts[key].module(*inputs.values())
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        found = graphs[key].run({name: value.numpy() for name, value in inputs.items()})
        for name, value in zip(parts[key].outputs, expected, strict=True):
            largest = float(value.abs().max())
            assert largest > 0
            np.testing.assert_allclose(
                np.asarray(found[name], np.float32), value.numpy(), atol=1e-4 * largest
            )


def test_closed_forms_stay_exact_in_every_precision(detector: AnomalyMoE) -> None:
    parts = detector_parts(detector, Head((SIZE, SIZE), GRID), expert_specs(detector))
    assert {part.key for part in parts if part.exact} == {*GRAPHS, "router"}


def test_a_defect_stands_out_on_the_patch_level(detector: AnomalyMoE) -> None:
    good = normal_pictures("disc", 3, first_seed=70)
    damaged = good.copy()
    damaged[:, 20:26, 8:14] = (0, 255, 0)
    with torch.no_grad():
        errors = [
            detector.run_expert(0, scene).error.amax((1, 2))
            for scene in (_scene(detector, pixels) for pixels in (good, damaged))
        ]
    assert (errors[1] > 2 * errors[0]).all()


def _scene(detector: AnomalyMoE, pixels: Pictures) -> Scene:
    image = detector.normalise(torch.from_numpy(pixels))
    return Scene(image, detector.encode(image).features, torch.empty(0))
