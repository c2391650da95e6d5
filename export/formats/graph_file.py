"""What exporting one part gives: its files and its signature."""

from typing import NamedTuple

import torch
from torch import Tensor

from export.contract.manifest import GraphSpec, TensorSpec
from export.contract.provenance import SUFFIXES, Format
from export.graphs.part import Part
from training.reporting.macs import counted

_DTYPES = {torch.uint8: "uint8", torch.int64: "int64", torch.float32: "float32", torch.bool: "bool"}


class GraphFile(NamedTuple):
    """The signature of a graph, and its files by path within the bundle."""

    spec: GraphSpec
    files: dict[str, bytes]


@torch.no_grad()
def part_spec(part: Part, examples: dict[str, Tensor], form: Format) -> GraphSpec:
    """The signature of a part, from one run on examples of its inputs."""
    feeds = tuple(examples[name] for name in part.inputs)
    results, macs = counted(lambda: part.module(*feeds))
    outputs = results if isinstance(results, tuple) else (results,)
    pictures = min(len(feed) for feed in feeds)  # an expert runs on the rows that chose it
    return GraphSpec(
        path=f"graphs/{part.key}{SUFFIXES[form]}",
        inputs=_specs(part, part.inputs, feeds),
        outputs=_specs(part, part.outputs, outputs),
        macs=macs // pictures,
    )


def _specs(part: Part, names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> dict[str, TensorSpec]:
    return {name: _spec(part.axes[name], tensor) for name, tensor in zip(names, tensors, strict=True)}


def _spec(axes: tuple[str, ...], tensor: Tensor) -> TensorSpec:
    return TensorSpec(dtype=_DTYPES[tensor.dtype], shape=(*axes, *tensor.shape[len(axes) :]))
