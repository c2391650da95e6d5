"""Eight-bit integers for CPUs: matrix products, and convolutions where activations are calibrated.

Weights get one scale a channel and seven bits, since products of two eight-bit numbers overflow the sums of
processors without VNNI. Narrow ones stay float32: routers and low-rank experts cost little and decide much.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Feeds = dict[str, npt.NDArray[Any]]

DYNAMIC = ("MatMul",)
STATIC = ("MatMul", "Gemm", "Conv")
NARROW = 64  # a matrix with a shorter side is
_OPTIONS = {"MatMulConstBOnly": True}  # products of two activations, as in attention, stay float32


class _Reader(CalibrationDataReader):
    """Feeds one after the other."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:  # pyright: ignore[reportIncompatibleMethodOverride] (None is the end)
        return next(self._feeds, None)


def quantise_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Integer weights; activations are scaled anew in each run."""
    with _on_disk(model) as (source, target):
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(DYNAMIC),
            nodes_to_exclude=_narrow(source),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options=_OPTIONS,
        )
        return onnx.load(target)


def quantise_static(model: onnx.ModelProto, feeds: Iterable[Feeds]) -> onnx.ModelProto:
    """Integer weights and activations, whose ranges are those on the given inputs of the graph."""
    with _on_disk(model) as (source, target):
        quantize_static(
            source,
            target,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(STATIC),
            nodes_to_exclude=_narrow(source),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=True,
            extra_options=_OPTIONS,
        )
        return onnx.load(target)


def _narrow(path: Path) -> list[str]:
    """The names of matrix products with a narrow weight."""
    graph = onnx.load(path, load_external_data=False).graph
    sides = {tensor.name: tensor.dims for tensor in graph.initializer if len(tensor.dims) == 2}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and min(sides.get(node.input[1], [NARROW])) < NARROW
    ]


@contextmanager
def _on_disk(model: onnx.ModelProto) -> Iterator[tuple[Path, Path]]:
    """Where the quantiser reads, with shapes inferred and batch norms folded, and where it writes."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns on the root logger, of what is done here already
    with tempfile.TemporaryDirectory(prefix="anomoe-") as scratch:
        folder = Path(scratch)
        del model.graph.value_info[:]  # shapes of weights that the quantiser turns; it infers them anew
        # Weights beside the models, since a protocol buffer holds less than 2 GiB.
        onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="model.weights")
        quant_pre_process(
            folder / "model.onnx",
            folder / "ready.onnx",
            skip_symbolic_shape=True,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            external_data_location="ready.weights",
        )
        try:
            yield folder / "ready.onnx", folder / "quantised.onnx"
        finally:
            root.setLevel(level)
