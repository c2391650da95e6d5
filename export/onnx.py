"""One part of a detector as an ONNX file, through PyTorch's dynamo exporter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from export.contract.manifest import GraphSpec, TensorSpec
from export.graphs import Part

OPSET = 18

_DTYPES = {torch.uint8: "uint8", torch.int64: "int64", torch.float32: "float32", torch.bool: "bool"}


class OnnxFile(NamedTuple):
    """The bytes of a graph and its signature."""

    spec: GraphSpec
    model: bytes


def export_onnx(part: Part, examples: dict[str, Tensor]) -> OnnxFile:
    """Trace a part on examples of its inputs (see `example_tensors`); the batch stays dynamic.

    Raises RuntimeError when the exporter gives up.
    """
    feeds = tuple(examples[name] for name in part.inputs)
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            part.module,
            feeds,
            dynamo=True,
            opset_version=OPSET,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=tuple(dict(enumerate(part.axes[name])) for name in part.inputs),
            verbose=False,
        )
        results = part.module(*feeds)
    if program is None:
        raise RuntimeError(f"{part.key}: the exporter gave no program")
    outputs = results if isinstance(results, tuple) else (results,)
    spec = GraphSpec(
        path=f"graphs/{part.key}.onnx",
        inputs=_specs(part, part.inputs, feeds),
        outputs=_specs(part, part.outputs, outputs),
    )
    return OnnxFile(spec, program.model_proto.SerializeToString(deterministic=True))


def _specs(part: Part, names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> dict[str, TensorSpec]:
    return {name: _spec(part.axes[name], tensor) for name, tensor in zip(names, tensors, strict=True)}


def _spec(axes: tuple[str, ...], tensor: Tensor) -> TensorSpec:
    return TensorSpec(dtype=_DTYPES[tensor.dtype], shape=(*axes, *tensor.shape[len(axes) :]))


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
