"""Permits bound what is worked on at once, and leave room for those who hold few."""

import asyncio
from contextlib import ExitStack, suppress
from time import perf_counter

import pytest

from service.caller import Caller
from service.errors import Kind, Problem
from service.pace import Pace
from service.permits import Permits

SLOW = 0.5


def permits_of(limit: int, byte_limit: int = 1000) -> Permits:
    return Permits(limit, byte_limit, Pace(SLOW))


def take_all(permits: Permits, stack: ExitStack, client: str, size: int = 0) -> int:
    """Hold permits until one is refused; how many there were."""
    before = permits.taken
    with suppress(Problem):
        while permits.taken <= permits.limit:
            stack.enter_context(permits.hold(Caller(client), size))
    return permits.taken - before


def test_the_last_permit_is_followed_by_429_until_one_is_given_back() -> None:
    permits = permits_of(2)
    with permits.hold():
        with permits.hold(), pytest.raises(Problem) as caught, permits.hold():
            pass
        with permits.hold():
            assert permits.taken == 2
    assert caught.value.kind is Kind.BUSY
    assert int(caught.value.headers["Retry-After"]) == 1
    assert permits.taken == 0


def test_a_permit_is_given_back_after_an_error() -> None:
    permits = permits_of(1)
    with pytest.raises(RuntimeError), permits.hold(size=7):
        raise RuntimeError
    assert (permits.taken, permits.taken_bytes) == (0, 0)


def test_a_flood_leaves_room_for_the_others() -> None:
    permits = permits_of(64)
    with ExitStack() as stack:
        assert take_all(permits, stack, "flood") == 52
        assert take_all(permits, stack, "second flood") >= 8
        stack.enter_context(permits.hold(Caller("camera")))


def test_bytes_are_bounded_and_shared_too() -> None:
    permits = permits_of(64, byte_limit=1000)
    with ExitStack() as stack:
        assert take_all(permits, stack, "flood", size=100) == 8
        stack.enter_context(permits.hold(Caller("camera"), 150))
        with pytest.raises(Problem, match="950 in all, of 1000"), permits.hold(Caller("other"), 60):
            pass
    assert permits.taken_bytes == 0


def test_retry_after_is_what_the_queue_takes() -> None:
    permits = permits_of(10)
    with ExitStack() as stack:
        held = take_all(permits, stack, "flood")
        with pytest.raises(Problem) as caught:
            permits.hold(Caller("flood")).__enter__()
        assert held == 8
        assert int(caught.value.headers["Retry-After"]) == held * SLOW


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    permits = permits_of(64)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(permits.hold(Caller("flood")))
        with pytest.raises(Problem, match="deadline") as caught:
            permits.hold(Caller("flood", perf_counter() + 1)).__enter__()
        assert caught.value.kind is Kind.BUSY
        # Clients take turns: another one does not wait for all of the flood.
        stack.enter_context(permits.hold(Caller("camera", perf_counter() + 2)))


def test_an_idle_service_takes_a_request_whatever_its_deadline() -> None:
    with permits_of(1).hold(Caller("camera", perf_counter() + 0.001)) as permit:
        assert permit.size == 0


def test_waiting_for_the_last_permit() -> None:
    async def scenario() -> None:
        permits = permits_of(2)
        await permits.all_returned()
        with permits.hold():
            waiting = asyncio.create_task(permits.all_returned())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_pace_follows_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("service.pace.perf_counter", lambda: now[0])
    pace = Pace(10.0)
    for _ in range(100):
        now[0] += 50  # a pause does not count
        pace.begin()
        for _ in range(3):
            now[0] += 2
            pace.answered()
    assert pace.seconds == pytest.approx(2)
    assert int(pace.retry_after(7)) in (14, 15)
    assert pace.retry_after(0) == "1"
