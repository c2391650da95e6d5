"""The convolutional encoder as a graph: the same features in every format and in any batch."""

import numpy as np
import pytest
import torch

from export.bundles.active import expert_specs
from export.formats.forms import Form, make_exporter
from export.graphs.anomalymoe import detector_parts, example_tensors
from export.graphs.part import Part, random_pictures
from service.inference.backends.onnx import OnnxGraph
from service.inference.backends.torchscript import TorchScriptGraph
from tests.training.anomalymoe.tiny import randomised
from tests.training.tiny_run import tiny_config
from training.anomalymoe.checkpoint import build_detector
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.head import Head
from training.backbones.conv import ConvEncoder, ConvEncoderConfig

SIZE = (64, 64)


@pytest.fixture(scope="module")
def detector() -> AnomalyMoE:
    torch.manual_seed(0)
    encoder = ConvEncoderConfig(
        model="test_efficientnet", image_size=SIZE, grid=(8, 8), stages=(1, 2, 3), colours=True
    )
    changes = {"backbone": "efficientnet-lite0", "encoder": encoder, "pretext": None}
    size = {"height": SIZE[0], "width": SIZE[1]}
    detector = build_detector(tiny_config(**changes, input=size)).eval()
    assert isinstance(detector.encoder, ConvEncoder)
    randomised(detector.encoder, std=0.1)
    detector.encoder.standardise([detector.normalise(random_pictures(SIZE, 8))])
    return detector


@pytest.fixture(scope="module")
def backbone(detector: AnomalyMoE) -> Part:
    return next(iter(detector_parts(detector, Head(SIZE, (8, 8)), expert_specs(detector))))


def test_onnx_gives_what_torch_gives_alone_and_in_a_batch(detector: AnomalyMoE, backbone: Part) -> None:
    graph = make_exporter(Form())(backbone, example_tensors(detector, batch=3, rows=(2, 0)))
    session = OnnxGraph(graph.files[graph.spec.path], device="cpu", threads=1)
    pictures = random_pictures(SIZE, 4)
    with torch.inference_mode():
        expected = backbone.module(pictures)
    found = session.run({"image": pictures.numpy()})
    for name, theirs in zip(("features", "cls"), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found[name]), theirs, rtol=1e-3, atol=1e-3)
    for row in range(4):
        alone = session.run({"image": pictures[row : row + 1].numpy()})
        for name, of_all in found.items():
            np.testing.assert_array_equal(alone[name][0], of_all[row])


def test_torchscript_gives_what_torch_gives(detector: AnomalyMoE, backbone: Part) -> None:
    graph = make_exporter(Form("torchscript"))(backbone, example_tensors(detector, batch=3, rows=(2, 0)))
    module = TorchScriptGraph(graph.files[graph.spec.path], graph.spec, device="cpu", threads=1)
    pictures = random_pictures(SIZE, 5)
    with torch.inference_mode():
        expected = backbone.module(pictures)
    found = module.run({"image": pictures.numpy()})
    for name, theirs in zip(("features", "cls"), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found[name]), theirs, rtol=1e-4, atol=1e-4)
