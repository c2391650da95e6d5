"""What the engine expects of a runtime."""

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contract.manifest import TensorSpec

Array: TypeAlias = npt.NDArray[np.generic]
Device = Literal["auto", "cuda", "cpu"]
Signature: TypeAlias = dict[str, TensorSpec]
"""Inputs and outputs by name, a name instead of a size where an axis is dynamic."""


class GraphError(RuntimeError):
    """A graph that could not be loaded or run; the message names the graph."""


class DeviceTensor(Protocol):
    """A tensor that stays where the graph computed it until `numpy` copies it to the host."""

    def numpy(self) -> Array: ...


class Graph(Protocol):
    """One loaded graph. Both methods raise GraphError when the runtime fails."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def device(self) -> Literal["cuda", "cpu"]: ...

    def run(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, Array]:
        """Outputs by name, on the host."""
        ...

    def run_on_device(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, DeviceTensor]:
        """Outputs by name, left on the device as feeds for the next graph."""
        ...
