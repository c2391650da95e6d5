import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper, parser

from service.inference.backends import onnx as backend
from service.inference.backends.base import GraphError
from service.inference.backends.onnx import OnnxGraph


def graph_bytes(text: str) -> bytes:
    graph = parser.parse_graph(text)
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


ADD = graph_bytes("add (float[N] a, float[N] b) => (float[N] sum) { sum = Add(a, b) }")
ADD_TWICE = "add (float[N] a) => (float[N] sum) { b = Add(a, a) c = Add(b, a) d = Mul(b, c) sum = Sub(d, a) }"
ones = np.ones(3, np.float32)


def test_run_gives_outputs_by_name():
    graph = OnnxGraph(ADD, "cpu", threads=1)
    assert graph.inputs == ("a", "b")
    np.testing.assert_array_equal(graph.run({"a": ones, "b": 2 * ones})["sum"], 3 * ones)


def test_inputs_need_not_be_contiguous():
    spread = np.arange(6, dtype=np.float32)[::2]
    np.testing.assert_array_equal(OnnxGraph(ADD, "cpu").run({"a": spread, "b": spread})["sum"], 2 * spread)


def test_device_tensors_feed_the_next_graph():
    graph = OnnxGraph(ADD, "cpu", threads=1)
    first = graph.run_on_device({"a": ones, "b": ones})["sum"]
    assert not isinstance(first, np.ndarray)
    np.testing.assert_array_equal(graph.run({"a": first, "b": first})["sum"], 4 * ones)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_graphs_compute_in_the_same_memory():
    first, second = (OnnxGraph(graph_bytes(ADD_TWICE), "cpu", threads=1) for _ in range(2))
    large = np.ones(2**24, np.float32)
    first.run({"a": large})
    kept = resident_bytes()
    second.run({"a": large})
    assert resident_bytes() < kept + large.nbytes / 2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_unreadable_model_is_a_graph_error_with_its_name():
    with pytest.raises(GraphError, match="router: cannot be loaded"):
        OnnxGraph(b"not a model", "cpu", name="router")


@pytest.mark.parametrize(
    "feeds",
    [{"a": ones}, {"a": ones, "b": np.ones(2, np.float32)}, {"a": ones, "b": np.ones(3, np.int64)}],
    ids=["missing", "wrong length", "wrong type"],
)
def test_failing_run_is_a_graph_error_with_its_name(feeds: dict[str, np.ndarray]):
    with pytest.raises(GraphError, match="head: "):
        OnnxGraph(ADD, "cpu", name="head").run(feeds)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(GraphError, match="cuda"):
        OnnxGraph(ADD, "cuda")
    assert OnnxGraph(ADD, "auto").device == "cpu"


NAMED_FILE = b"\x6a\x14\n%slocation\x12\x06secret"


@pytest.mark.parametrize("length", [b"\x08", b"\x88\x00", b"\x88\x80\x80\x00"])
def test_a_runtime_that_would_read_any_file_gets_no_graph_that_names_one(
    monkeypatch: pytest.MonkeyPatch, length: bytes
) -> None:
    """Before 1.24, which Python 3.10 does not get; a node may well be called `allocation`."""
    monkeypatch.setattr(backend.ort, "SessionOptions", OldOptions)
    OnnxGraph(graph_bytes("allocation (float[N] a) => (float[N] sum) { sum = Add(a, a) }"), "cpu")
    with pytest.raises(GraphError, match=r"router: cannot be loaded: weights .* 1\.24"):
        OnnxGraph(ADD + NAMED_FILE % length, "cpu", name="router", external={"secret": b"AAAA"})


class OldOptions(onnxruntime.SessionOptions):
    """Options of a runtime before 1.24."""

    @property
    def add_external_initializers_from_files_in_memory(self) -> None:
        raise AttributeError
