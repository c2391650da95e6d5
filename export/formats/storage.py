"""Weights stored once, and at half their size where nothing is lost by it."""

import hashlib

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 1024  # numbers; shapes and constants are left alone

_FLOAT = onnx.TensorProto.FLOAT


def store_compactly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep one of equal weights, and float32 ones that are all half-precision numbers as such.

    A Cast brings the latter back exactly; a runtime does it once, when it loads the graph.
    """
    graph = model.graph
    names, kept, casts = dict[str, str](), list[onnx.TensorProto](), list[onnx.NodeProto]()
    known: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size < SMALLEST:
            kept.append(tensor)
            continue
        content = hashlib.sha256(np.ascontiguousarray(values).data).digest()
        names[tensor.name] = known.setdefault((tensor.data_type, values.shape, content), tensor.name)
        if names[tensor.name] != tensor.name:
            continue
        halves = as_halves(values) if tensor.data_type == _FLOAT else None
        stored = tensor if halves is None else numpy_helper.from_array(halves, f"{tensor.name}.half")
        kept.append(stored)
        if halves is not None:
            casts.append(
                helper.make_node("Cast", [stored.name], [tensor.name], f"{tensor.name}.cast", to=_FLOAT)
            )
    nodes = [*casts, *(_renamed(node, names) for node in graph.node)]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return model


def as_halves(values: np.ndarray) -> np.ndarray | None:
    """The same numbers in half precision, None where one of them would change."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return halves if np.array_equal(halves.astype(values.dtype), values) else None


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    for place, name in enumerate(node.input):
        node.input[place] = names.get(name, name)
    return node
