"""The cache runs the tower once a name, keeps the latest ones, and outlives failures and leavers."""

import asyncio
from collections.abc import Coroutine
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.detection.text_cache import TextCache
from service.inference.text_tower import ClassText
from service.metrics import Metrics


class Tower:
    """Encodes a name as its length when `gate` is open, fails on ""; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False
        self.stopped = 0

    async def encode(self, name: str) -> ClassText:
        self.asked.append(name)
        try:
            await (self.gate.wait() if name else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if self.failing or not name:
            raise ValueError(f"{name} fails")
        return ClassText(np.zeros((2, 3), np.float32), np.full(3, len(name), np.float32))


class Cached:
    """A cache with its tower and its figures."""

    def __init__(self, capacity: int = 8) -> None:
        self.metrics = Metrics()
        self.tower = Tower()
        self.cache = TextCache(capacity, self.metrics)

    async def lengths(self, *names: str, digest: str = "sha256:1") -> list[float]:
        texts = await self.cache.texts(digest, names, nullcontext, self.tower.encode)
        return [float(text.embedding[0]) for text in texts]

    def figure(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"anomoe_text_cache_{name}", labels)
        assert value is not None
        return value

    @property
    def counts(self) -> tuple[float, float, float]:
        """Hits, misses, size."""
        hits, misses = (self.figure("total", result=result) for result in ("hit", "miss"))
        return hits, misses, self.figure("size")


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


def test_known_names_are_not_encoded_again_and_order_is_kept() -> None:
    async def scenario() -> None:
        cached = Cached()
        assert await cached.lengths("nut", "screw") == [3, 5]
        assert await cached.lengths("screw", "bolts!", "nut") == [5, 6, 3]
        assert cached.tower.asked == ["nut", "screw", "bolts!"]
        assert cached.counts == (2, 3, 3)

    run(scenario())


def test_another_model_has_its_own_texts() -> None:
    async def scenario() -> None:
        cached = Cached()
        await cached.lengths("nut")
        await cached.lengths("nut", digest="sha256:2")
        assert cached.tower.asked == ["nut", "nut"]
        assert cached.counts == (0, 2, 2)

    run(scenario())


def test_name_used_longest_ago_is_dropped() -> None:
    async def scenario() -> None:
        cached = Cached(capacity=2)
        await cached.lengths("a", "b")
        await cached.lengths("a")
        await cached.lengths("c")
        cached.tower.asked.clear()
        await cached.lengths("a", "c", "b")
        assert cached.tower.asked == ["b"]
        assert cached.counts[2] == 2

    run(scenario())


def test_concurrent_requests_for_one_new_name_encode_it_once() -> None:
    async def scenario() -> None:
        cached = Cached()
        cached.tower.gate.clear()
        asking = [asyncio.create_task(cached.lengths("nut", "screw")) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cached.tower.gate.set()
        assert await asyncio.gather(*asking) == [[3, 5]] * 5
        assert cached.tower.asked == ["nut", "screw"]
        assert cached.counts == (8, 2, 2)

    run(scenario())


def test_caller_who_leaves_does_not_fail_those_who_wait() -> None:
    async def scenario() -> None:
        cached = Cached()
        cached.tower.gate.clear()
        leaving = asyncio.create_task(cached.lengths("nut"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        staying = asyncio.create_task(cached.lengths("nut"))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        cached.tower.gate.set()
        assert await staying == [3]
        assert cached.tower.asked == ["nut"]

    run(scenario())


def test_the_last_caller_who_leaves_stops_the_work() -> None:
    async def scenario() -> None:
        cached = Cached()
        cached.tower.gate.clear()
        leaving = [asyncio.create_task(cached.lengths("nut", "screw")) for _ in range(2)]
        await asyncio.sleep(0.01)
        for one in leaving:
            one.cancel()
        await asyncio.wait(leaving)
        coming = asyncio.create_task(cached.lengths("nut"))
        await asyncio.sleep(0.01)
        assert cached.tower.asked == ["nut", "screw", "nut"]
        assert cached.tower.stopped == 2
        cached.tower.gate.set()
        assert await coming == [3]
        assert cached.counts[2] == 1

    run(scenario())


def test_names_beside_one_that_fails_are_not_encoded_for_nobody() -> None:
    async def scenario() -> None:
        cached = Cached()
        cached.tower.gate.clear()
        waiting = asyncio.create_task(cached.lengths("nut", ""))
        with pytest.raises(ValueError, match="fails"):
            await waiting
        await asyncio.sleep(0)
        assert cached.tower.stopped == 1

    run(scenario())


def test_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    async def scenario() -> None:
        cached = Cached()
        cached.tower.failing = True
        results = await asyncio.gather(*(cached.lengths("nut") for _ in range(3)), return_exceptions=True)
        assert [str(result) for result in results] == ["nut fails"] * 3
        cached.tower.failing = False
        assert await cached.lengths("nut") == [3]
        assert cached.tower.asked == ["nut", "nut"]

    run(scenario())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)))
def test_answers_are_right_and_memory_bounded_for_any_requests(
    capacity: int, requests: list[list[str]]
) -> None:
    async def scenario() -> None:
        cached = Cached(capacity)
        for names in requests:
            assert await cached.lengths(*names) == [1] * len(names)
            assert cached.counts[2] <= capacity
        hits, misses, _ = cached.counts
        assert misses == len(cached.tower.asked)
        assert hits + misses == sum(map(len, requests))

    run(scenario())
