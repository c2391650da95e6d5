"""A batch that fails is computed again in halves, so that only what is bad fails."""

import gc
import weakref
from collections.abc import Sequence

import pytest

from service.inference.backends.base import GraphError
from service.inference.isolation import IsolatedBatches


class Engine:
    """Doubles numbers. Fails as a whole on batches with a 13, and on more than `memory` numbers."""

    def __init__(self, memory: int = 100) -> None:
        self.memory = memory
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.batches.append(numbers)
        if len(numbers) > self.memory:
            raise GraphError("backbone: Failed to allocate memory for requested buffer of size 9")
        if 13 in numbers:
            raise GraphError("backbone: bad number")
        return [LookupError("odd one") if number < 0 else 2 * number for number in numbers]


@pytest.mark.parametrize("place", range(8))
def test_one_bad_in_eight_fails_alone(place: int) -> None:
    engine = Engine()
    numbers = list(range(8))
    numbers[place] = 13
    results = IsolatedBatches(engine, 8)(numbers)
    assert isinstance(results[place], GraphError)
    assert [results[n] for n in range(8) if n != place] == [2 * n for n in range(8) if n != place]
    assert len(engine.batches) == 7


def test_a_good_batch_is_computed_once_and_errors_of_items_stay() -> None:
    engine = Engine()
    results = IsolatedBatches(engine, 8)([1, -1, 3])
    assert results[::2] == [2, 6]
    assert isinstance(results[1], LookupError)
    assert len(engine.batches) == 1


def test_what_the_engine_says_of_single_items_is_tried_again_without_the_others() -> None:
    seen: list[list[int]] = []

    def engine(numbers: list[int]) -> list[int | Exception]:
        """The expert of the large numbers fails when there is an odd one among them."""
        seen.append(numbers)
        is_broken = any(number > 9 and number % 2 for number in numbers)
        return [GraphError("expert-patch-1") if number > 9 and is_broken else number for number in numbers]

    results = IsolatedBatches(engine, 8)([1, 10, 11, 12])
    assert results[:2] == [1, 10]
    assert isinstance(results[2], GraphError)
    assert results[3] == 12
    assert seen[0] == [1, 10, 11, 12]
    assert all(1 not in batch for batch in seen[1:])


def test_too_little_memory_halves_the_batch_from_then_on() -> None:
    engine = Engine(memory=3)
    batches = IsolatedBatches(engine, 8)
    assert batches(list(range(8))) == [2 * n for n in range(8)]
    assert batches.limit == 2
    assert "Failed to allocate" in str(IsolatedBatches(Engine(memory=0), 8)([1])[0])


def test_python_running_out_of_memory_counts_too() -> None:
    def engine(numbers: list[int]) -> list[int]:
        if len(numbers) > 1:
            raise MemoryError
        return numbers

    batches = IsolatedBatches(engine, 4)
    assert batches([1, 2, 3, 4]) == [1, 2, 3, 4]
    assert batches.limit == 1


def test_other_failures_keep_the_limit() -> None:
    batches = IsolatedBatches(Engine(), 8)
    batches([13, 1])
    assert batches.limit == 8


def test_what_failed_for_want_of_memory_holds_none_while_halves_are_tried() -> None:
    held: list[weakref.ref[Engine]] = []

    def run(items: list[int]) -> Sequence[int]:
        assert [reference() for reference in held] == [None] * len(held)
        large = Engine()
        held.append(weakref.ref(large))
        if len(items) > 1:
            raise RuntimeError("CUDA out of memory")
        return items

    gc.disable()
    try:
        assert IsolatedBatches(run, 8)([1, 2, 3, 4]) == [1, 2, 3, 4]
    finally:
        gc.enable()
    assert len(held) == 7
