"""TorchScript: one frozen module a graph, on CUDA or on the CPU. The only file of the service with torch.

`torch.jit.load` builds code from the file. It must only see bytes that a manifest vouches for; a bundle from
elsewhere is as trustworthy as the digest it was pulled with.
"""

# What torch.jit gives back has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch

from export.contract.manifest import GraphSpec, TensorSpec
from service.inference.backends.base import Array, Device, DeviceTensor, GraphError
from service.process import usable_cores


@dataclass(frozen=True, eq=False)
class TorchTensor:
    """A tensor on its device."""

    tensor: torch.Tensor

    def numpy(self) -> Array:
        return self.tensor.cpu().numpy()


class TorchScriptGraph:
    """One TorchScript graph; inputs and outputs are those of `spec`, in its order.

    device, threads: see `OnnxGraph`; the number of threads is that of the whole process.
    Raises GraphError when the module cannot be loaded, CUDA is asked for and cannot be had, or what it gives
    for zeros has not the shapes of `spec`.
    """

    def __init__(
        self,
        model_bytes: bytes,
        spec: GraphSpec,
        device: Device = "auto",
        threads: int = 0,
        name: str = "graph",
    ) -> None:
        self._name, self._spec = name, spec
        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise GraphError(f"{name}: device cuda was asked for, but torch cannot use it here")
        self.device: Literal["cuda", "cpu"] = "cuda" if has_cuda and device != "cpu" else "cpu"
        torch.set_num_threads(threads or usable_cores())
        torch.backends.cudnn.allow_tf32 = False  # see `_CUDA_OPTIONS` of OnnxGraph
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that torch.export is to be preferred
                self._module = torch.jit.load(BytesIO(model_bytes), map_location=self.device)
            move_what_it_makes(self._module, self.device)
        except Exception as error:  # a torch error of any kind
            raise GraphError(f"{name}: cannot be loaded: {_reason(error)}") from error
        self.inputs: tuple[str, ...] = tuple(spec.inputs)
        self.outputs: tuple[str, ...] = tuple(spec.outputs)
        self._try_on_zeros()

    def run(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, Array]:
        """Outputs by name, on the host. Raises GraphError when the module fails."""
        return {name: value.numpy() for name, value in self.run_on_device(feeds).items()}

    def run_on_device(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, DeviceTensor]:
        """Outputs by name, left on the device. Raises GraphError when the module fails."""
        if set(feeds) != set(self.inputs):
            raise GraphError(f"{self._name}: takes {', '.join(self.inputs)}, got {', '.join(feeds)}")
        try:
            with torch.inference_mode():
                outputs = self._module(*(self._tensor(feeds[name]) for name in self.inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return {name: TorchTensor(value) for name, value in zip(self.outputs, outputs, strict=True)}
        except Exception as error:  # a torch error of any kind
            raise GraphError(f"{self._name}: {_reason(error)}") from error

    def _tensor(self, value: Array | DeviceTensor) -> torch.Tensor:
        if isinstance(value, TorchTensor):
            return value.tensor
        host = value if isinstance(value, np.ndarray) else value.numpy()
        # A copy, since torch must not see memory that cannot be written.
        return torch.from_numpy(np.array(host)).to(self.device)

    def _try_on_zeros(self) -> None:
        """A TorchScript file does not tell its shapes: they are tried, with every dynamic axis 1."""
        for kind, tensors in (("inputs", self._spec.inputs), ("outputs", self._spec.outputs)):
            unknown = sorted({tensor.dtype for tensor in tensors.values()} - set(_DTYPES))
            if unknown:
                raise GraphError(f"{self._name}: {kind} of type {', '.join(unknown)}")
        zeros = {name: np.zeros(_shape(tensor), tensor.dtype) for name, tensor in self._spec.inputs.items()}
        for name, value in self.run(zeros).items():
            wanted = self._spec.outputs[name]
            if value.dtype.name != wanted.dtype or value.shape != _shape(wanted):
                raise GraphError(
                    f"{self._name}: {name} is {value.dtype} {value.shape}, the manifest says {wanted}"
                )


def move_what_it_makes(module: torch.jit.ScriptModule, device: str) -> None:
    """Let a traced module make its tensors, as of `arange`, on a device; else it does where it was traced."""
    constants = module.graph.findAllNodes("prim::Constant")  # pyright: ignore[reportAttributeAccessIssue]
    for node in constants:
        if node.output().type().kind() == "DeviceObjType":
            node.s_("value", device)


_DTYPES = ("uint8", "int64", "float32", "bool")


def _shape(tensor: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if isinstance(size, str) else size for size in tensor.shape)


def _reason(error: Exception) -> str:
    """What happened, without the trace through TorchScript's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
