"""Any part as a graph file of any format and precision."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import onnx
from torch import Tensor

from export.contract.provenance import Format, Precision
from export.formats.graph_file import GraphFile
from export.formats.half import Halver
from export.formats.onnx import export_onnx
from export.formats.quantise import Feeds, quantise_dynamic, quantise_static
from export.formats.storage import store_compactly
from export.formats.torchscript import export_torchscript
from export.graphs.part import Part

Exporter = Callable[[Part, dict[str, Tensor]], GraphFile]


@dataclass(frozen=True)
class Form:
    """How graphs are written. Raises ValueError for a precision that the format cannot have."""

    format: Format = "onnx"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.format == "torchscript" and self.precision.startswith("int8"):
            raise ValueError(f"precision: {self.precision!r} is there for format 'onnx' only")


def make_exporter(form: Form, calibration: Iterable[dict[str, Tensor]] = ()) -> Exporter:
    """What turns a part into a file.

    calibration: graph inputs from normal pictures, batch by batch, for int8-static.
    Raises ValueError when that needs some and there are none.
    """
    plain = _export_torchscript if form.format == "torchscript" else _export_onnx
    if form.precision == "fp32":
        return plain
    if form.precision == "fp16":
        halve = Halver()
        return lambda part, examples: plain(halve(part), examples)
    batches = list(calibration)
    if form.precision == "int8-static" and not batches:
        raise ValueError("precision: 'int8-static' needs normal pictures to calibrate on")
    return partial(_export_int8, batches=batches if form.precision == "int8-static" else None)


def _export_onnx(part: Part, examples: dict[str, Tensor]) -> GraphFile:
    return export_onnx(part, examples, store_compactly)


def _export_torchscript(part: Part, examples: dict[str, Tensor]) -> GraphFile:
    return export_torchscript(part, examples)


def _export_int8(
    part: Part, examples: dict[str, Tensor], batches: list[dict[str, Tensor]] | None
) -> GraphFile:
    if part.exact:
        return _export_onnx(part, examples)

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        if batches is None:
            return store_compactly(quantise_dynamic(model))
        return store_compactly(quantise_static(model, _feeds(part, batches)))

    return export_onnx(part, examples, change)


def _feeds(part: Part, batches: list[dict[str, Tensor]]) -> Iterator[Feeds]:
    return ({name: tensors[name].numpy() for name in part.inputs} for tensors in batches)
