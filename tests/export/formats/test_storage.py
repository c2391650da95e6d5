import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.formats.storage import SMALLEST, as_halves, store_compactly

SIDE = 40  # SIDE ** 2 > SMALLEST


def model_of(**weights: np.ndarray) -> onnx.ModelProto:
    """x times each weight in turn."""
    names = list(weights)
    nodes = [
        helper.make_node("MatMul", ["x" if place == 0 else f"y{place - 1}", name], [f"y{place}"])
        for place, name in enumerate(names)
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [tensor("x", TensorProto.FLOAT, ["B", SIDE])],
        [tensor(f"y{len(names) - 1}", TensorProto.FLOAT, ["B", SIDE])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answer(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((3, SIDE)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def weight(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)


def halves(seed: int) -> np.ndarray:
    return weight(seed).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("weights", "share"),
    [
        ({"a": halves(0), "b": halves(1)}, 0.5),
        ({"a": weight(0), "b": weight(1)}, 1.0),
        ({"a": weight(0), "b": halves(1)}, 0.75),
        ({"a": weight(0), "b": weight(0).copy()}, 0.5),
    ],
    ids=["all halves", "no halves", "one of two", "twice the same"],
)
def test_nothing_is_lost_and_what_can_be_is_saved(weights: dict[str, np.ndarray], share: float) -> None:
    assert SIDE**2 > SMALLEST
    before = model_of(**weights)
    expected, size = answer(before), before.ByteSize()
    after = store_compactly(before)
    np.testing.assert_array_equal(answer(after), expected)
    assert after.ByteSize() == pytest.approx(share * size, abs=500)


def test_numbers_beyond_half_precision_stay_as_they_are() -> None:
    assert as_halves(np.array([1e6], np.float32)) is None
    assert as_halves(np.array([0.1], np.float32)) is None
    assert as_halves(np.array([0.5, -2.0], np.float32)) is not None


def test_equal_integers_are_stored_once() -> None:
    """As the weights of a projection that is used at several scales, once they are quantised."""
    model, values = model_of(a=weight(0)), np.ones((SIDE, SIDE), np.int8)
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name in ("i", "j"))
    model.graph.node.extend(helper.make_node("Identity", [name], [f"{name}2"]) for name in ("i", "j"))
    graph = store_compactly(model).graph
    assert [tensor.name for tensor in graph.initializer] == ["a", "i"]
    assert [list(node.input) for node in graph.node if node.op_type == "Identity"] == [["i"], ["i"]]
