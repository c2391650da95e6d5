"""A graph that knows how long it takes."""

from collections.abc import Mapping
from time import perf_counter
from typing import Literal

import numpy as np

from service.backends.base import Array, DeviceTensor, Graph
from service.curve import Curve, fit_curve


class TimedGraph:
    """Runs a graph, and remembers for each number of items the shortest time that they took.

    The items are the `rows` of a graph that has them, else the first axis of its first input.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs = graph.inputs
        self.device: Literal["cuda", "cpu"] = graph.device
        self._counted = "rows" if "rows" in graph.inputs else graph.inputs[0]
        self._shortest: dict[int, float] = {}

    @property
    def curve(self) -> Curve | None:
        """Seconds by number of items; None before the first run."""
        return fit_curve(dict(self._shortest)) if self._shortest else None

    def run(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, Array]:
        """Outputs by name, on the host. Raises GraphError when the runtime fails."""
        return {name: value.numpy() for name, value in self.run_on_device(feeds).items()}

    def run_on_device(self, feeds: Mapping[str, Array | DeviceTensor]) -> dict[str, DeviceTensor]:
        """Outputs by name, left on the device. Raises GraphError when the runtime fails."""
        began = perf_counter()
        outputs = self._graph.run_on_device(feeds)
        seconds, counted = perf_counter() - began, feeds[self._counted]
        if isinstance(counted, np.ndarray):
            self._shortest[len(counted)] = min(seconds, self._shortest.get(len(counted), seconds))
        return outputs


def curves_of(graphs: Mapping[str, TimedGraph]) -> dict[str, Curve]:
    """The curve of each graph that has run."""
    return {key: graph.curve for key, graph in graphs.items() if graph.curve}
