"""Permits bound what is worked on at once, and leave room for those who hold few."""

import asyncio
from contextlib import ExitStack, suppress
from time import perf_counter

import pytest

from service.errors import Kind, Problem
from service.scheduling.caller import Caller
from service.scheduling.permits import Permits


def permits_of(limit: int, byte_limit: int = 1000) -> Permits:
    return Permits(limit, byte_limit)


def take_all(permits: Permits, stack: ExitStack, client: str, size: int = 0) -> int:
    """Hold permits until one is refused; how many there were."""
    before = permits.taken
    with suppress(Problem):
        while True:
            stack.enter_context(permits.hold(Caller(client), size))
    return permits.taken - before


def test_the_last_permit_is_followed_by_429_until_one_is_given_back() -> None:
    permits = permits_of(3)
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
    assert (permits.taken, permits.bodies.taken) == (0, 0)


def test_a_flood_leaves_room_for_the_others() -> None:
    permits = permits_of(64)
    with ExitStack() as stack:
        assert take_all(permits, stack, "flood") == 51
        assert take_all(permits, stack, "second flood") >= 8
        stack.enter_context(permits.hold(Caller("camera")))


@pytest.mark.parametrize("limit", range(2, 12))
def test_a_flood_leaves_one_permit_at_least(limit: int) -> None:
    permits = permits_of(limit)
    with ExitStack() as stack:
        take_all(permits, stack, "flood")
        stack.enter_context(permits.hold(Caller("camera")))


def test_bytes_are_bounded_and_shared_too() -> None:
    permits = permits_of(64, byte_limit=1000)
    with ExitStack() as stack:
        assert take_all(permits, stack, "flood", size=100) == 8
        stack.enter_context(permits.hold(Caller("camera"), 150))
        with pytest.raises(Problem, match="950 in all, of 1000"), permits.hold(Caller("other"), 60):
            pass
    assert permits.bodies.taken == 0


def test_bytes_that_come_unannounced_count_as_they_come() -> None:
    permits = permits_of(64, byte_limit=1000)
    with permits.hold(Caller("flood")) as permit, permits.hold(Caller("flood")) as other:
        for received in (100, 50, 500):
            permit.cover_body(received)
        other.cover_body(100)
        assert permits.bodies.taken == 600
        with pytest.raises(Problem, match="600 bytes of this client, 600 in all"):
            other.cover_body(301)
        other.cover_body(300)
        with permits.hold(Caller("camera"), 200):
            pass
    assert permits.bodies.taken == 0


def test_one_request_may_have_all_the_room_when_it_is_alone() -> None:
    permits = permits_of(64, byte_limit=1000)
    with permits.hold(Caller("camera"), 900) as permit:
        permit.cover_body(1000)
        permit.cover_answer(900)
        permit.cover_answer(5000)
        assert (permits.bodies.taken, permits.answers.taken) == (1000, 1000)
    assert (permits.bodies.taken, permits.answers.taken) == (0, 0)


def test_answers_that_are_being_taken_keep_no_body_out_and_leave_room_for_other_answers() -> None:
    permits = permits_of(64, byte_limit=1000)
    with permits.hold(Caller("hog")) as first, permits.hold(Caller("hog")) as second:
        first.cover_answer(670)
        with pytest.raises(Problem) as caught:
            second.cover_answer(330)
        assert "670 bytes of answers of this client, 670 in all" in caught.value.detail
        with permits.hold(Caller("camera"), 800) as permit:
            permit.cover_answer(200)


def test_retry_after_is_when_its_turn_would_come() -> None:
    permits = permits_of(1)
    with permits.hold():
        for wait_s, seconds in ((0.0, 1), (0.9, 1), (4.2, 5)):
            with pytest.raises(Problem) as caught:
                permits.hold(Caller("camera"), wait_s=wait_s).__enter__()
            assert int(caught.value.headers["Retry-After"]) == seconds


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    permits = permits_of(64)
    with pytest.raises(Problem, match="deadline") as caught:
        permits.hold(Caller("camera", perf_counter() + 1), wait_s=1.1).__enter__()
    assert caught.value.kind is Kind.DEADLINE
    assert int(caught.value.headers["Retry-After"]) == 2
    assert permits.taken == 0
    with permits.hold(Caller("camera", perf_counter() + 1), wait_s=0.9):
        pass


def test_an_idle_service_takes_a_request_whatever_its_deadline() -> None:
    permits = permits_of(1)
    with permits.hold(Caller("camera", perf_counter() - 1)):
        assert permits.taken == 1


def test_waiting_for_the_last_permit() -> None:
    async def scenario() -> None:
        permits = permits_of(3)
        await permits.all_returned()
        with permits.hold():
            waiting = asyncio.create_task(permits.all_returned())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())
