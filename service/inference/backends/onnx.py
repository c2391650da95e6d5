"""ONNX Runtime: one session a graph, on CUDA or on the CPU."""

# ONNX Runtime has no type stubs: what it returns is unknown here and typed at the signatures below.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import os
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

import numpy as np

# Read at the import. Without it the runtime notes a device id in the home folder, and reports to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from export.contract.manifest import TensorSpec
from service.inference.backends.base import Array, Device, DeviceTensor, GraphError, Signature
from service.process import usable_cores

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
# The default search tries every convolution algorithm anew for each batch size it meets, and by default
# products of float32 have ten bits of mantissa: an error that is one minus a cosine has no digits left then.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
# Without any, the runtime would read the files that a graph names from the working directory.
_NOTHING = {"no file": b"\0"}
# How the name of a file with weights is announced: a string, after its length, which may be written longer.
_LOCATION = re.compile(rb"(?:\x08|\x88\x80*\x00)location")
RUNTIME = f"onnxruntime {ort.__version__}"


class OnnxGraph:
    """One ONNX graph in its own session.

    name: how errors call the graph. threads: for one run, 0 = `usable_cores`. external: weights that lie
    outside the file, by the name it calls them.
    Raises GraphError when the model cannot be loaded or CUDA is asked for and cannot be had.
    """

    def __init__(
        self,
        model_bytes: bytes,
        device: Device = "auto",
        threads: int = 0,
        name: str = "graph",
        external: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        self._name = name
        providers, options = _providers(device), _options(threads)
        if providers == [_CPU]:
            _share_memory(options)
        try:
            _confine(options, model_bytes, external)
            self._session = ort.InferenceSession(model_bytes, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors share no narrower base class
            raise GraphError(f"{name}: cannot be loaded: {error}") from error
        self.device: Literal["cuda", "cpu"] = "cuda" if _CUDA in self._session.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise GraphError(f"{name}: device cuda was asked for, but ONNX Runtime cannot use it here")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.inputs: tuple[str, ...] = tuple(argument.name for argument in inputs)
        self.outputs: tuple[str, ...] = tuple(argument.name for argument in outputs)
        self.signature: Signature = {
            argument.name: _tensor_spec(argument.type, argument.shape) for argument in (*inputs, *outputs)
        }

    def run(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, Array]:
        """Outputs by name, on the host. Raises GraphError when the runtime fails."""
        return {name: value.numpy() for name, value in self.run_on_device(feeds).items()}

    def run_on_device(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, DeviceTensor]:
        """Outputs by name, left on the device. Raises GraphError when the runtime fails."""
        try:
            binding = self._session.io_binding()
            for name, value in feeds.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, self.device)
            self._session.run_with_iobinding(binding)
            return dict(zip(self.outputs, binding.get_outputs(), strict=True))
        except Exception as error:  # ONNX Runtime's errors share no narrower base class
            raise GraphError(f"{self._name}: {error}") from error


def _confine(options: ort.SessionOptions, model_bytes: bytes, external: Mapping[str, bytes]) -> None:
    """Let a graph have these files only. Raises ValueError where the runtime cannot and it names any."""
    if hasattr(options, "add_external_initializers_from_files_in_memory"):
        files, weights = zip(*(external or _NOTHING).items(), strict=True)
        sizes = list(map(len, weights))
        options.add_external_initializers_from_files_in_memory(list(files), list(weights), sizes)
    elif _LOCATION.search(model_bytes):
        raise ValueError("weights in a file of their own need ONNX Runtime 1.24, and that Python 3.11")


def is_gpu_build() -> bool:
    """Whether the installed runtime is one for GPUs, be there one or not."""
    return _CUDA in ort.get_available_providers()


def _providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    if device != "cpu" and is_gpu_build():
        ort.preload_dlls()  # of the packages with CUDA's libraries, where the system has none
        return [(_CUDA, _CUDA_OPTIONS), _CPU]
    return [_CPU]


def _share_memory(options: ort.SessionOptions) -> None:
    """Let graphs on the CPU compute in one arena; each has its weights for itself, which leave with it."""
    _make_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


@cache
def _make_arena() -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({}))


def _tensor_spec(kind: str, shape: list[int | str | None]) -> TensorSpec:
    """From ONNX Runtime's words, as `tensor(float)` and None for an axis without a name."""
    dtype = kind.removeprefix("tensor(").removesuffix(")")
    axes = tuple("?" if size is None else size for size in shape)
    return TensorSpec(dtype={"float": "float32", "double": "float64"}.get(dtype, dtype), shape=axes)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    # Waiting threads would burn the cores of an idle service.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
