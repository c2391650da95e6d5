"""A batch alone and several at once go to different engines."""

import threading
from collections.abc import Sequence

import pytest

from service.tuning.dual_engine import Computes, DualEngine


class Named:
    """Answers with its name; `gate` holds it up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def run(self, pictures: Sequence[int]) -> list[str | Exception]:
        self.began.set()
        assert self.gate.wait(10)
        if not pictures:
            raise ValueError(self.name)
        return [self.name] * len(pictures)


def nobody_waits() -> bool:
    return False


def test_the_second_at_once_is_shared_and_the_next_alone_again() -> None:
    alone, shared = Named("alone"), Named("shared")
    pair: Computes[int, str] = DualEngine(alone, shared, nobody_waits)
    assert pair.run([1]) == ["alone"]
    alone.gate.clear()
    alone.began.clear()
    first: list[Sequence[str | Exception]] = []
    thread = threading.Thread(target=lambda: first.append(pair.run([1, 2])))
    thread.start()
    assert alone.began.wait(10)
    assert pair.run([3]) == ["shared"]
    alone.gate.set()
    thread.join(10)
    assert first == [["alone", "alone"]]
    assert pair.run([4]) == ["alone"]


def test_a_failed_batch_is_over() -> None:
    pair = DualEngine(Named("alone"), Named("shared"), nobody_waits)
    for _ in range(2):
        with pytest.raises(ValueError, match="alone"):
            pair.run([])


def test_while_others_wait_all_are_shared() -> None:
    waiting = [1]
    pair = DualEngine(Named("alone"), Named("shared"), lambda: bool(waiting))
    assert pair.run([1]) == ["shared"]
    waiting.clear()
    assert pair.run([1]) == ["alone"]
