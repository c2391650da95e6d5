"""Every format and precision of single parts: what they compute, how large they are, the same bytes again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.contract.provenance import Format, Precision
from export.formats.forms import Form, make_exporter
from export.formats.graph_file import GraphFile
from export.formats.onnx import export_onnx
from export.graphs.part import Part
from service.inference.backends.base import Graph, GraphError
from service.inference.backends.onnx import OnnxGraph
from service.inference.backends.torchscript import TorchScriptGraph

WIDTH = 64
FORMS: tuple[tuple[Format, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("onnx", "int8-static"),
    ("torchscript", "fp32"),
    ("torchscript", "fp16"),
)
CLOSE = {"fp32": 1e-5, "fp16": 3e-3, "int8": 3e-2, "int8-static": 1e-1}


class Mixer(nn.Module):
    """Convolution and batch norm, then linear layers: image, rows -> cls (b, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 4, stride=4), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, image: Tensor, rows: Tensor) -> Tensor:
        scaled = image[rows].permute(0, 3, 1, 2).float() / 255
        return self.mlp(self.stem(scaled).mean((2, 3)))


@pytest.fixture(scope="module")
def part() -> Part:
    torch.manual_seed(0)
    axes = {"image": ("B",), "rows": ("b",), "cls": ("b",)}
    return Part("mixer", Mixer().eval(), ("image", "rows"), ("cls",), axes=axes)


def examples(batch: int, rows: tuple[int, ...]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(batch)
    image = torch.randint(0, 256, (batch, 8, 8, 3), generator=random).to(torch.uint8)
    return {"image": image, "rows": torch.tensor(rows)}


def exported(part: Part, form: Format, precision: Precision) -> GraphFile:
    batches = [examples(8, tuple(range(8)))] if precision == "int8-static" else []
    return make_exporter(Form(form, precision), batches)(part, examples(3, (2, 0)))


def opened(graph: GraphFile) -> Graph:
    [data] = [graph.files[graph.spec.path]]
    if graph.spec.path.endswith(".pt"):
        return TorchScriptGraph(data, graph.spec, "cpu", 1)
    return OnnxGraph(data, "cpu", 1)


def size(graph: GraphFile) -> int:
    return sum(len(data) for data in graph.files.values())


@pytest.mark.parametrize(("form", "precision"), FORMS)
def test_a_part_computes_the_same_in_every_batch(part: Part, form: Format, precision: Precision) -> None:
    graph = exported(part, form, precision)
    runs = opened(graph)
    for batch, rows in ((1, (0,)), (3, (1, 2, 0)), (9, (8, 3))):
        feeds = examples(batch, rows)
        with torch.no_grad():
            expected = part.module(*feeds.values()).numpy()
        found = runs.run({name: value.numpy() for name, value in feeds.items()})["cls"]
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < CLOSE[precision] * np.abs(expected).max()


@pytest.mark.parametrize(("form", "precision"), FORMS)
def test_exporting_twice_gives_the_same_bytes(part: Part, form: Format, precision: Precision) -> None:
    first, second = exported(part, form, precision), exported(part, form, precision)
    assert first == second
    for data in first.files.values():
        assert str(Path(__file__).parent).encode() not in data
        assert b"site-packages" not in data


def test_lower_precision_is_smaller(part: Part) -> None:
    whole = size(exported(part, "onnx", "fp32"))
    assert size(exported(part, "onnx", "fp16")) < 0.65 * whole
    assert size(exported(part, "onnx", "int8")) < 0.5 * whole
    assert size(exported(part, "torchscript", "fp16")) < 0.7 * size(exported(part, "torchscript", "fp32"))


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-static"])
def test_an_exact_part_stays_as_it_is(part: Part, precision: Precision) -> None:
    exact = Part(part.key, part.module, part.inputs, part.outputs, exact=True, axes=part.axes)
    assert exported(exact, "onnx", precision) == exported(part, "onnx", "fp32")
    assert all(parameter.dtype == torch.float32 for parameter in part.module.parameters())


def test_a_form_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'int8' is there for format 'onnx' only"):
        Form("torchscript", "int8")
    with pytest.raises(ValueError, match="'int8-static' needs normal pictures"):
        make_exporter(Form("onnx", "int8-static"))


def test_large_weights_go_into_a_file_of_their_own(part: Part) -> None:
    together = export_onnx(part, examples(3, (2, 0)))
    apart = export_onnx(part, examples(3, (2, 0)), external_above=10_000)
    assert together.spec.external == ()
    assert apart.spec.external == ("graphs/mixer.weights",)
    assert len(apart.files["graphs/mixer.onnx"]) < 0.2 * len(together.files["graphs/mixer.onnx"])
    external = {"mixer.weights": apart.files["graphs/mixer.weights"]}
    feeds: dict[str, Any] = {name: value.numpy() for name, value in examples(5, (4, 1)).items()}
    found = OnnxGraph(apart.files["graphs/mixer.onnx"], "cpu", 1, external=external).run(feeds)["cls"]
    np.testing.assert_array_equal(found, opened(together).run(feeds)["cls"])


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_weights_that_are_cut_off_are_refused(part: Part, kept: int) -> None:
    apart = export_onnx(part, examples(3, (2, 0)), external_above=10_000)
    external = {"mixer.weights": apart.files["graphs/mixer.weights"][:kept]}
    with pytest.raises(GraphError, match="mixer: cannot be loaded"):
        OnnxGraph(apart.files["graphs/mixer.onnx"], "cpu", 1, "mixer", external)


def test_a_graph_reads_no_file_that_it_was_not_given(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even from the working directory, where the runtime would look."""
    apart = export_onnx(part, examples(3, (2, 0)), external_above=10_000)
    (tmp_path / "mixer.weights").write_bytes(apart.files["graphs/mixer.weights"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError, match=r"mixer\.weights not found"):
        OnnxGraph(apart.files["graphs/mixer.onnx"], "cpu", 1)
