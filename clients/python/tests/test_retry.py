"""What is asked again, when, and for how long."""

import asyncio
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from stub_server import StubServer

from anomoe_client import AsyncClient, Client, ClientError, ProblemError, UnreachableError
from anomoe_client.retry import Attempts, Patience, seconds_of

FULL = ProblemError("full", status=429, type="", title="", detail="", request_id=None, retry_after_s=3.0)


def attempts(retry_s: float = 60, deadline_s: float | None = None) -> Attempts:
    return Attempts(Patience(60, retry_s, deadline_s))


def test_the_service_says_how_long_to_wait() -> None:
    assert attempts().pause_s(FULL) == 3


@pytest.mark.parametrize(("retry_s", "deadline_s"), [(2.9, None), (60, 2.9), (0, None)])
def test_a_wait_past_the_time_is_not_begun(retry_s: float, deadline_s: float | None) -> None:
    with pytest.raises(ProblemError):
        attempts(retry_s, deadline_s).pause_s(FULL)


def test_pauses_grow_to_a_limit_and_differ() -> None:
    lost = UnreachableError("lost", is_transient=True)
    one = attempts(1000)
    pauses = [one.pause_s(lost) for _ in range(12)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(5 <= pause <= 10 for pause in pauses[8:])
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3", 3), ("0", 0), ("", 0), ("soon", 0), ("-3", 0), ("²", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after_is_seconds_or_a_date(text: str, wanted: float) -> None:
    assert seconds_of(text) == wanted


def test_retry_after_of_a_date_to_come() -> None:
    text = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    assert 95 < seconds_of(text) <= 100


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500, 504])
def test_what_would_be_refused_again_is_asked_once(status: int) -> None:
    with StubServer({"a": [status]}).running() as server, Client(server.url) as client:
        with pytest.raises(ProblemError) as caught:
            client.detect(b"a")
        assert (caught.value.status, caught.value.type, server.seen["a"]) == (status, "urn:anomoe:x", 1)


def test_the_deadline_is_told_and_kept() -> None:
    server = StubServer({"a": [503]}, refusal="Retry-After: 5\r\n")
    with server.running(), Client(server.url, deadline_s=2) as client:
        with pytest.raises(ProblemError, match="503"):
            client.detect(b"a")
        assert client.detect(b"a").verdict == "normal"
        heads = [line for head in server.heads for line in head.splitlines() if "Deadline" in line]
    assert all(0 < float(line.partition(": ")[2]) <= 2000 for line in heads)
    assert len(heads) == 2


def test_nothing_that_listens_is_told_at_once() -> None:
    with StubServer().running() as server:
        url = server.url
    with Client(url) as client, pytest.raises(UnreachableError) as caught:
        client.detect(b"a")
    assert not caught.value.is_transient


def test_both_clients_tell_the_same() -> None:
    async def ask(url: str) -> str:
        async with AsyncClient(url, key="anomoe_1") as client:
            with pytest.raises(ClientError) as caught:
                await client.zero_shot(b"b", class_names=["metal nut", "bolt"], threshold=0.5)
            return str(caught.value)

    with StubServer({"b": [422, 422]}).running() as server:
        with Client(server.url, key="anomoe_1") as client, pytest.raises(ClientError) as caught:
            client.zero_shot(b"b", class_names=["metal nut", "bolt"], threshold=0.5)
        assert asyncio.run(ask(server.url)) == str(caught.value)
    own, other = (
        [line for line in head.splitlines() if "agent" not in line.lower()] for head in server.heads
    )
    assert own == other
    assert own[0] == "POST /zero-shot?class_names=metal+nut&class_names=bolt&threshold=0.5 HTTP/1.1"
    assert "X-API-Key: anomoe_1" in own
