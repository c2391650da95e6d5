"""Many pictures by a server that refuses, drops connections and restarts: one answer each, in order."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from stub_server import StubServer

from anomoe_client import AsyncClient, Client, ClientError, Detection

FAULTS: dict[int, list[int | str]] = {
    7: [429],
    107: [503, 429],
    207: ["drop"],
    307: ["cut"],
    407: ["drop", 503, "cut"],
}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomoe_client.retry.FIRST_PAUSE_S", 0.02)


class Counted:
    """Pictures 0 to `count`, and how many of them were out at once without an answer."""

    def __init__(self, count: int) -> None:
        self.count, self.taken, self.answered, self.most_out = count, 0, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.count):
            self.taken += 1
            self.most_out = max(self.most_out, self.taken - self.answered)
            yield str(number).encode()

    def check(self, result: Detection | ClientError) -> None:
        """Take the next answer, which must be that of the next picture."""
        assert isinstance(result, Detection), result
        assert result.request_id == str(self.answered)
        self.answered += 1


def faulty(count: int) -> StubServer:
    """A server with a fault a hundred pictures and three restarts."""
    faults = {str(number): list(FAULTS.get(number % 500, [])) for number in range(count)}
    for number in (count // 4, count // 2, count * 3 // 4):
        faults[str(number)] = ["restart"]
    return StubServer(faults)


def check_all(server: StubServer, pictures: Counted, at_once: int) -> None:
    assert (pictures.answered, pictures.taken) == (pictures.count, pictures.count)
    assert pictures.most_out <= at_once
    assert 1 < server.most_at_once <= at_once
    assert len(server.seen) == pictures.count
    assert all(server.seen[one] > len(faults) for one, faults in server.faults.items())


def test_ten_thousand_pictures_are_answered_once_and_in_order() -> None:
    pictures = Counted(10_000)
    with faulty(pictures.count).running() as server, Client(server.url) as client:
        for result in client.detect_many(pictures, at_once=8):
            pictures.check(result)
        check_all(server, pictures, 8)
        assert server.connections < 1000, "connections are used again"


def test_an_event_loop_answers_once_and_in_order() -> None:
    pictures = Counted(1000)

    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            async for result in client.detect_many(pictures, at_once=8):
                pictures.check(result)

    with faulty(pictures.count).running() as server:
        asyncio.run(ask(server.url))
        check_all(server, pictures, 8)


def test_an_error_takes_the_place_of_the_answer() -> None:
    with StubServer({"1": [422]}).running() as server, Client(server.url) as client:
        first, second, third = client.detect_many(iter([b"0", b"1", b"/nowhere"]))
        assert isinstance(first, Detection)
        assert str(second) == "No (422): as told; Retry-After: 0"
        missing = next(client.detect_many(["/nowhere/part.png"]))
        assert str(missing) == "cannot be read: No such file or directory"
        assert isinstance(third, Detection)


def test_pictures_may_come_from_an_async_generator_and_be_left() -> None:
    async def frames() -> AsyncIterator[bytes]:
        number = 0
        while True:
            yield str(number).encode()
            number += 1

    async def ask(url: str) -> list[str]:
        async with AsyncClient(url) as client:
            answers = client.detect_many(frames(), at_once=4)
            ids = [(await anext(answers)) for _ in range(3)]
            await answers.aclose()
            return [one.request_id for one in ids if isinstance(one, Detection)]

    with StubServer().running() as server:
        assert asyncio.run(ask(server.url)) == ["0", "1", "2"]
        assert len(server.seen) <= 7


def test_none_at_once_is_refused() -> None:
    with StubServer().running() as server, Client(server.url) as client:
        with pytest.raises(ValueError, match="0"):
            next(client.detect_many([b"0"], at_once=0))

        async def ask() -> None:
            async with AsyncClient(server.url) as other:
                await anext(other.detect_many([b"0"], at_once=0))

        with pytest.raises(ValueError, match="at_once: 1 or more is expected, got 0"):
            asyncio.run(ask())
