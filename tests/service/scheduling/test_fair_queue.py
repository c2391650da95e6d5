"""Clients take turns; who leaves the queue costs nothing and is not called; the pace is that of the work."""

import asyncio
from contextlib import suppress
from time import perf_counter

import pytest

from service.errors import Kind, Problem
from service.scheduling.caller import Caller
from service.scheduling.fair_queue import AnswerInterval, FairQueue


class Visitors:
    """Tasks that go through a queue and note their names when they are called."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.called: list[str] = []
        self.leave = asyncio.Event()

    def enter(self, name: str, deadline: float = float("inf")) -> "asyncio.Task[None]":
        return asyncio.create_task(self._visit(name, Caller(name.rstrip("0123456789"), deadline)))

    async def _visit(self, name: str, caller: Caller) -> None:
        async with self.queue.slot(caller):
            self.called.append(name)
            await self.leave.wait()


def test_as_many_as_fit_go_through_at_once() -> None:
    async def scenario() -> None:
        visitors = Visitors(FairQueue(2))
        tasks = [visitors.enter(f"a{number}") for number in range(3)]
        await asyncio.sleep(0)
        assert (visitors.called, visitors.queue.depth) == (["a0", "a1"], 1)
        visitors.leave.set()
        await asyncio.gather(*tasks)
        assert (visitors.called, visitors.queue.depth) == (["a0", "a1", "a2"], 0)

    asyncio.run(scenario())


def test_clients_take_turns_whatever_they_queue() -> None:
    async def scenario() -> None:
        visitors = Visitors(FairQueue(1))
        names = ["flood0", "flood1", "flood2", "flood3", "b0", "c0", "b1"]
        tasks = [visitors.enter(name) for name in names]
        await asyncio.sleep(0)
        visitors.leave.set()
        await asyncio.gather(*tasks)
        assert visitors.called == ["flood0", "flood1", "b0", "c0", "flood2", "b1", "flood3"]

    asyncio.run(scenario())


def test_a_caller_that_hangs_up_is_not_called_and_counted() -> None:
    async def scenario() -> None:
        abandoned: list[int] = []
        visitors = Visitors(FairQueue(1, lambda: abandoned.append(1)))
        first, gone, last = (visitors.enter(name) for name in ("a", "b", "c"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        assert (visitors.queue.depth, len(abandoned)) == (1, 1)
        visitors.leave.set()
        await asyncio.gather(first, last)
        assert visitors.called == ["a", "c"]

    asyncio.run(scenario())


def test_a_turn_given_to_a_caller_that_hangs_up_goes_to_the_next() -> None:
    async def scenario() -> None:
        visitors = Visitors(FairQueue(1))
        first, gone, last = (visitors.enter(name) for name in ("a", "b", "c"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)  # b has been called, and has not run yet
        gone.cancel()
        visitors.leave.set()
        await asyncio.wait_for(last, 5)
        assert visitors.called == ["a", "c"]
        async with visitors.queue.slot(Caller("d")):
            assert visitors.queue.depth == 0

    asyncio.run(scenario())


def test_a_deadline_passes_in_the_queue() -> None:
    async def scenario() -> None:
        visitors = Visitors(FairQueue(1))
        first = visitors.enter("a")
        late = visitors.enter("b", perf_counter() + 0.01)
        with pytest.raises(Problem) as caught:
            await asyncio.wait_for(late, 5)
        assert caught.value.kind is Kind.DEADLINE
        assert visitors.queue.depth == 0
        visitors.leave.set()
        await first
        assert visitors.called == ["a"]

    asyncio.run(scenario())


def test_the_wait_is_for_those_that_go_before_the_next_picture() -> None:
    async def scenario() -> None:
        queue = FairQueue(2, interval_s=0.5)
        visitors = Visitors(queue)
        assert queue.wait_s("flood") == 0
        tasks = [visitors.enter(f"flood{number}") for number in range(8)]
        await asyncio.sleep(0)
        assert queue.wait_s("flood") == (2 + 6) * 0.5
        assert queue.wait_s("camera") == (2 + 1) * 0.5  # clients take turns
        tasks += [visitors.enter(f"camera{number}") for number in range(3)]
        await asyncio.sleep(0)
        assert queue.wait_s("camera") == (2 + 3 + 4) * 0.5
        assert queue.wait_s("other") == (2 + 2) * 0.5
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert queue.wait_s("flood") == 0

    asyncio.run(scenario())


def test_only_answers_set_the_pace() -> None:
    async def scenario() -> None:
        queue = FairQueue(1, interval_s=5.0)
        for _ in range(50):
            with suppress(ValueError):
                async with queue.slot(Caller("broken")):
                    raise ValueError
        async with queue.slot(Caller("camera")):
            assert queue.wait_s("camera") == 5.0
        for _ in range(500):
            async with queue.slot(Caller("camera")):
                pass
        async with queue.slot(Caller("camera")):
            assert queue.wait_s("camera") < 0.1

    asyncio.run(scenario())


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("service.scheduling.fair_queue.perf_counter", lambda: self.now)

    def after(self, seconds: float) -> float:
        self.now += seconds
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_interval_follows_the_answers_and_no_pause(clock: Clock) -> None:
    interval = AnswerInterval(10.0)
    for _ in range(200):
        began = clock.after(50)
        for _ in range(3):
            clock.after(2)
            interval.answered(began)
    assert interval.seconds == pytest.approx(2, rel=0.01)


def test_pictures_that_come_seldom_take_no_longer_than_they_are_worked_on(clock: Clock) -> None:
    """Also while something else is always under way, of which nothing comes."""
    interval = AnswerInterval(10.0)
    for _ in range(500):
        began = clock.after(1.0)
        clock.after(0.02)
        interval.answered(began)
    assert interval.seconds == pytest.approx(0.02, rel=0.1)
