"""One part of a detector as an ONNX file, through PyTorch's dynamo exporter."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from export.formats.graph_file import GraphFile, part_spec
from export.graphs.part import Part

OPSET = 18
EXTERNAL_ABOVE = 2_000_000_000  # bytes of weights; a protocol buffer holds less than 2 GiB in all
ALIGNMENT = 4096  # bytes, so that weights may be mapped into memory

Change = Callable[[onnx.ModelProto], onnx.ModelProto]


def export_onnx(
    part: Part,
    examples: dict[str, Tensor],
    change: Change = lambda model: model,
    external_above: int = EXTERNAL_ABOVE,
) -> GraphFile:
    """Trace a part on examples of its inputs (see `example_tensors`); the batch stays dynamic.

    change: what is done to the model before it is written. external_above: bytes of weights from which on
    they go into a file of their own. The same part gives the same bytes, on any machine.
    Raises RuntimeError when the exporter gives up.
    """
    spec = part_spec(part, examples, "onnx")
    model = change(_trace(part, examples))
    _drop_notes(model)
    files = {}
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_above:
        path = f"graphs/{part.key}.weights"
        files[path] = move_weights(model, f"{part.key}.weights")
        spec = spec.model_copy(update={"external": (path,)})
    files[spec.path] = model.SerializeToString(deterministic=True)
    return GraphFile(spec.model_copy(update={"opset": _opset(model)}), files)


def move_weights(model: onnx.ModelProto, location: str) -> bytes:
    """Take the weights out of a model, which then refers to the file `location` for them; returns that file.

    Small tensors stay: shapes among them are needed before the file is there.
    """
    weights = bytearray()
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        if len(data) < 1024:
            continue
        weights.extend(bytes(-len(weights) % ALIGNMENT))
        entries = {"location": location, "offset": str(len(weights)), "length": str(len(data))}
        weights.extend(data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return bytes(weights)


def _trace(part: Part, examples: dict[str, Tensor]) -> onnx.ModelProto:
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            part.module,
            tuple(examples[name] for name in part.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=tuple(dict(enumerate(part.axes[name])) for name in part.inputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"{part.key}: the exporter gave no program")
    return program.model_proto


def _drop_notes(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on each node: paths and line numbers of the machine it ran on."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]


def _opset(model: onnx.ModelProto) -> int:
    return next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's notes about its own internals out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
