"""The TorchScript backend: what it computes, and reasons in one line that name the graph."""

import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.contract.manifest import GraphSpec, TensorSpec
from service.inference.backends.base import GraphError
from service.inference.backends.torchscript import TorchScriptGraph, TorchTensor, move_what_it_makes

ONES = np.ones((3, 2), np.float32)


class Sums(nn.Module):
    """a, rows -> sum (b, 2), twice (b, 2); a row number that is not there fails."""

    def forward(self, a: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        chosen = a[rows]
        return chosen + 1, 2 * chosen


def spec(width: int = 2, dtype: str = "float32") -> GraphSpec:
    value = TensorSpec(dtype=dtype, shape=("b", width))
    inputs = {
        "a": TensorSpec(dtype="float32", shape=("B", 2)),
        "rows": TensorSpec(dtype="int64", shape=("b",)),
    }
    return GraphSpec(path="graphs/sums.pt", inputs=inputs, outputs={"sum": value, "twice": value})


@pytest.fixture(scope="module")
def module_bytes() -> bytes:
    archive = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Sums().eval(), (torch.ones(3, 2), torch.tensor([0, 2])))
        torch.jit.save(torch.jit.freeze(traced), archive)
    return archive.getvalue()


@pytest.fixture
def graph(module_bytes: bytes) -> TorchScriptGraph:
    return TorchScriptGraph(module_bytes, spec(), "cpu", threads=1, name="sums")


def test_run_gives_outputs_by_name(graph: TorchScriptGraph) -> None:
    assert (graph.inputs, graph.outputs, graph.device) == (("a", "rows"), ("sum", "twice"), "cpu")
    found = graph.run({"rows": np.array([1]), "a": ONES})
    np.testing.assert_array_equal(found["sum"], 2 * ONES[:1])
    np.testing.assert_array_equal(found["twice"], 2 * ONES[:1])


def test_device_tensors_feed_the_next_graph(graph: TorchScriptGraph) -> None:
    first = graph.run_on_device({"a": ONES, "rows": np.array([0, 1])})["sum"]
    assert isinstance(first, TorchTensor)
    np.testing.assert_array_equal(graph.run({"a": first, "rows": np.array([1])})["sum"], 3 * ONES[:1])


def test_pictures_that_cannot_be_written_to_are_taken(graph: TorchScriptGraph) -> None:
    frozen = ONES.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(graph.run({"a": frozen, "rows": np.array([0])})["sum"], 2 * ONES[:1])


def test_an_unreadable_module_is_a_graph_error_with_its_name() -> None:
    with pytest.raises(GraphError, match=r"router: cannot be loaded: .+"):
        TorchScriptGraph(b"not a module", spec(), "cpu", name="router")


@pytest.mark.parametrize("feeds", [{"a": ONES}, {"a": ONES, "rows": np.array([7])}], ids=["missing", "row"])
def test_a_failing_run_is_a_graph_error_of_one_line_with_its_name(
    graph: TorchScriptGraph, feeds: dict[str, np.ndarray]
) -> None:
    with pytest.raises(GraphError, match="sums: ") as caught:
        graph.run(feeds)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("wrong", [spec(width=3), spec(dtype="int64")], ids=["shape", "type"])
def test_another_signature_than_the_manifests_is_refused(module_bytes: bytes, wrong: GraphSpec) -> None:
    with pytest.raises(GraphError, match=r"sums: sum is float32 \(1, 2\), the manifest says"):
        TorchScriptGraph(module_bytes, wrong, "cpu", name="sums")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_is_refused_where_there_is_none(module_bytes: bytes) -> None:
    with pytest.raises(GraphError, match="cuda"):
        TorchScriptGraph(module_bytes, spec(), "cuda")
    assert TorchScriptGraph(module_bytes, spec(), "auto").device == "cpu"


def test_the_number_of_threads_is_set(module_bytes: bytes) -> None:
    before = torch.get_num_threads()
    try:
        TorchScriptGraph(module_bytes, spec(), "cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


class Numbers(nn.Module):
    """a -> row numbers."""

    def forward(self, a: Tensor) -> Tensor:
        return torch.arange(a.shape[0], device=a.device)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_tensors_that_a_graph_makes_are_on_its_device_not_where_it_was_traced() -> None:
    module = torch.jit.freeze(torch.jit.trace(Numbers().eval(), (torch.ones(3, 2),)))
    move_what_it_makes(module, "meta")
    assert module(torch.ones(2, 2)).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not here")
def test_cuda_computes_the_same(graph: TorchScriptGraph, module_bytes: bytes) -> None:
    feeds = {"a": ONES, "rows": np.array([1, 2])}
    on_cuda = TorchScriptGraph(module_bytes, spec(), "cuda")
    assert on_cuda.device == "cuda"
    np.testing.assert_array_equal(on_cuda.run(feeds)["sum"], graph.run(feeds)["sum"])
