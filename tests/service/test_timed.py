"""Graphs know how long they take, by their items."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import pytest

from service.backends.base import Array, DeviceTensor
from service.backends.timed import TimedGraph
from service.curve import Curve

Feeds = Mapping[str, Array | DeviceTensor]


class Value:
    def numpy(self) -> Array:
        return np.zeros(1)


class SlowGraph:
    """Takes the next of some seconds on a clock of its own."""

    device: Literal["cuda", "cpu"] = "cpu"

    def __init__(self, inputs: tuple[str, ...], seconds: Iterator[float]) -> None:
        self.inputs = inputs
        self.seconds = seconds
        self.now = 0.0

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return {name: value.numpy() for name, value in self.run_on_device(feeds).items()}

    def run_on_device(self, feeds: Feeds) -> dict[str, DeviceTensor]:
        assert feeds
        self.now += next(self.seconds)
        return {"out": Value()}


def timed(monkeypatch: pytest.MonkeyPatch, inputs: tuple[str, ...], *seconds: float) -> TimedGraph:
    slow = SlowGraph(inputs, iter(seconds))
    monkeypatch.setattr("service.backends.timed.perf_counter", lambda: slow.now)
    return TimedGraph(slow)


def test_the_shortest_times_make_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = timed(monkeypatch, ("image",), 100, 5, 9, 6)
    assert graph.curve is None
    for items in (1, 1, 3, 1):
        assert set(graph.run({"image": np.zeros((items, 2))})) == {"out"}
    curve = graph.curve
    assert curve is not None
    assert (curve.each_s, curve.fixed_s) == pytest.approx((2, 3))


def test_an_experts_items_are_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = timed(monkeypatch, ("features", "rows"), 8)
    graph.run_on_device({"features": Value(), "rows": np.array([5, 0, 2, 7])})
    assert graph.curve == Curve(2, 0)


def test_a_failed_run_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = timed(monkeypatch, ("image",))
    with pytest.raises(StopIteration):
        graph.run({"image": np.zeros(1)})
    assert graph.curve is None
