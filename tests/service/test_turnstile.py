"""Clients take turns; who leaves the queue costs nothing and is not called."""

import asyncio
from contextlib import suppress
from time import perf_counter

import pytest

from service.caller import Caller
from service.errors import Kind, Problem
from service.turnstile import Turnstile


class Visitors:
    """Tasks that go through a turnstile and note their names when they are called."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.called: list[str] = []
        self.leave = asyncio.Event()

    def enter(self, name: str, deadline: float = float("inf")) -> "asyncio.Task[None]":
        return asyncio.create_task(self._visit(name, Caller(name.rstrip("0123456789"), deadline)))

    async def _visit(self, name: str, caller: Caller) -> None:
        async with self.turnstile.turn(caller):
            self.called.append(name)
            await self.leave.wait()


def test_as_many_as_fit_go_through_at_once() -> None:
    async def scenario() -> None:
        visitors = Visitors(Turnstile(2))
        tasks = [visitors.enter(f"a{number}") for number in range(3)]
        await asyncio.sleep(0)
        assert (visitors.called, visitors.turnstile.depth) == (["a0", "a1"], 1)
        visitors.leave.set()
        await asyncio.gather(*tasks)
        assert (visitors.called, visitors.turnstile.depth) == (["a0", "a1", "a2"], 0)

    asyncio.run(scenario())


def test_clients_take_turns_whatever_they_queue() -> None:
    async def scenario() -> None:
        visitors = Visitors(Turnstile(1))
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
        visitors = Visitors(Turnstile(1, lambda: abandoned.append(1)))
        first, gone, last = (visitors.enter(name) for name in ("a", "b", "c"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        assert (visitors.turnstile.depth, len(abandoned)) == (1, 1)
        visitors.leave.set()
        await asyncio.gather(first, last)
        assert visitors.called == ["a", "c"]

    asyncio.run(scenario())


def test_a_turn_given_to_a_caller_that_hangs_up_goes_to_the_next() -> None:
    async def scenario() -> None:
        visitors = Visitors(Turnstile(1))
        first, gone, last = (visitors.enter(name) for name in ("a", "b", "c"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)  # b has been called, and has not run yet
        gone.cancel()
        visitors.leave.set()
        await asyncio.wait_for(last, 5)
        assert visitors.called == ["a", "c"]
        async with visitors.turnstile.turn(Caller("d")):
            assert visitors.turnstile.depth == 0

    asyncio.run(scenario())


def test_a_deadline_passes_in_the_queue() -> None:
    async def scenario() -> None:
        visitors = Visitors(Turnstile(1))
        first = visitors.enter("a")
        late = visitors.enter("b", perf_counter() + 0.01)
        with pytest.raises(Problem) as caught:
            await asyncio.wait_for(late, 5)
        assert caught.value.kind is Kind.DEADLINE
        assert visitors.turnstile.depth == 0
        visitors.leave.set()
        await first
        assert visitors.called == ["a"]

    asyncio.run(scenario())


def test_the_wait_is_for_those_that_go_before_the_next_picture() -> None:
    async def scenario() -> None:
        turnstile = Turnstile(2, pace_s=0.5)
        visitors = Visitors(turnstile)
        assert turnstile.wait_s("flood") == 0
        tasks = [visitors.enter(f"flood{number}") for number in range(8)]
        await asyncio.sleep(0)
        assert turnstile.wait_s("flood") == (2 + 6) * 0.5
        assert turnstile.wait_s("camera") == (2 + 1) * 0.5  # clients take turns
        tasks += [visitors.enter(f"camera{number}") for number in range(3)]
        await asyncio.sleep(0)
        assert turnstile.wait_s("camera") == (2 + 3 + 4) * 0.5
        assert turnstile.wait_s("other") == (2 + 2) * 0.5
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert turnstile.wait_s("flood") == 0

    asyncio.run(scenario())


def test_only_answers_set_the_pace() -> None:
    async def scenario() -> None:
        turnstile = Turnstile(1, pace_s=5.0)
        for _ in range(50):
            with suppress(ValueError):
                async with turnstile.turn(Caller("broken")):
                    raise ValueError
        async with turnstile.turn(Caller("camera")):
            assert turnstile.wait_s("camera") == 5.0
        for _ in range(500):
            async with turnstile.turn(Caller("camera")):
                pass
        async with turnstile.turn(Caller("camera")):
            assert turnstile.wait_s("camera") < 0.1

    asyncio.run(scenario())
