"""The graphs of a bundle in the runtime that their files are for; the only place that chooses one."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from export.contract.bundle import Bundle
from export.contract.manifest import GraphSpec, TensorSpec
from service.inference.backends.base import Device, Graph, GraphError, Signature
from service.inference.backends.onnx import RUNTIME, OnnxGraph, is_gpu_build
from service.throttle import Pause

GPUS = Path("/proc/driver/nvidia/gpus")  # of the machine, a folder each


def open_graphs(
    bundle: Bundle, keys: Iterable[str], device: Device, threads: int, rest: Pause
) -> dict[str, Graph]:
    """Several graphs, and a rest after each; see `open_graph`."""
    graphs: dict[str, Graph] = {}
    for key in keys:
        graphs[key] = open_graph(bundle, key, device, threads)
        rest()
    return graphs


def runtime_of(bundle: Bundle) -> str:
    """Name and version of the runtime that a bundle's graphs are for."""
    return f"torch {version('torch')}" if bundle.manifest.format == "torchscript" else RUNTIME


def misses_gpu(bundle: Bundle, asked: Device, found: str) -> bool:
    """Whether the CPU computes, which nobody asked for, though the machine or the runtime is one for GPUs.

    PyTorch's usual build is for GPUs and says nothing about what was wanted.
    """
    is_wanted = any(GPUS.glob("*")) or (bundle.manifest.format == "onnx" and is_gpu_build())
    return asked == "auto" and found == "cpu" and is_wanted


def open_graph(bundle: Bundle, key: str, device: Device = "auto", threads: int = 0) -> Graph:
    """Load one graph from bytes whose hash was checked just before.

    device, threads: see `OnnxGraph`. Raises BundleError for a changed file; GraphError naming the file when
    the graph cannot be loaded or has another signature than the manifest says.
    """
    try:
        return _opened(bundle, key, device, threads)
    except GraphError as error:
        raise GraphError(f"{bundle.folder / bundle.manifest.graphs[key].path}: {error}") from error


def _opened(bundle: Bundle, key: str, device: Device, threads: int) -> Graph:
    spec = bundle.manifest.graphs[key]
    model = bundle.graph_bytes(key)
    if PurePosixPath(spec.path).suffix == ".pt":
        # torch takes seconds to import, and the light installation has none.
        from service.inference.backends.torchscript import TorchScriptGraph  # noqa: PLC0415

        return TorchScriptGraph(model, spec, device, threads, key)
    graph = OnnxGraph(model, device, threads, key, bundle.external_bytes(key))
    _compare(key, graph.signature, spec)
    return graph


def _compare(key: str, found: Signature, spec: GraphSpec) -> None:
    """Raise GraphError unless names, types and shapes of a graph are those of the manifest."""
    wanted = spec.inputs | spec.outputs
    if set(found) != set(wanted):
        raise GraphError(f"{key}: has {list(found)}, the manifest says {list(wanted)}")
    for name, tensor in wanted.items():
        if not _fits(found[name], tensor, is_input=name in spec.inputs):
            raise GraphError(f"{key}: {name} is {found[name]}, the manifest says {tensor}")


def _fits(found: TensorSpec, wanted: TensorSpec, *, is_input: bool) -> bool:
    """Equal sizes, and an axis is dynamic in both; of outputs a runtime may know less than the manifest."""
    if found.dtype != wanted.dtype or len(found.shape) != len(wanted.shape):
        return False
    for size, expected in zip(found.shape, wanted.shape, strict=True):
        is_unknown = isinstance(size, str) and not is_input
        if size != expected and not is_unknown and not (isinstance(size, str) and isinstance(expected, str)):
            return False
    return True
