"""A refused client that sends first and reads later gets its answer all the same."""

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from service.connection.lingering_close import MOST_DROPPED, LingeringTransport
from tests.service.conftest import encoded
from tests.service.running import ServiceProcess, connect, service_process, until_closed
from tests.tiny_bundle import plain_picture

pytestmark = pytest.mark.alone

NORMAL = encoded(plain_picture("brick"))
LARGEST = 2**22
PATIENCE_S = 3


@pytest.fixture(scope="module")
def service(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    log = tmp_path_factory.mktemp("lingering") / "log"
    with service_process(
        bundle_folder, log, queue_size=1, max_body_bytes=LARGEST, header_timeout_s=PATIENCE_S
    ) as running:
        yield running


def post(service: ServiceProcess, body: bytes) -> tuple[int, str | None, bytes]:
    """Status, Retry-After and body; as `urllib` and `requests` do, nothing is read before all is sent."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        connection.request("POST", "/detect", body, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"], answer.read()


def test_a_picture_that_is_too_large_is_told_so(service: ServiceProcess) -> None:
    status, _, text = post(service, bytes(8 * LARGEST))
    assert status == 413
    assert b"the limit is 4194304" in text


def test_a_large_picture_in_overload_is_told_when_to_come_back(service: ServiceProcess) -> None:
    with connect(service) as slow:
        slow.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        answers = [post(service, bytes(LARGEST))[:2] for _ in range(20)]
        slow.sendall(bytes(999))
        assert slow.recv(4096).startswith(b"HTTP/1.1 415 ")
    assert answers == [(429, "1")] * 20
    assert post(service, NORMAL)[0] == 200


def test_a_broken_body_gives_its_place_back_at_once(service: ServiceProcess) -> None:
    with connect(service) as broken:
        broken.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx")
        time.sleep(0.1)
        broken.sendall(b"nonsense")
        assert until_closed(broken).startswith(b"HTTP/1.1 400 ")
        assert post(service, NORMAL)[0] == 200


def test_who_does_not_stop_sending_is_dropped(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx")
        assert until_closed(connection).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(OSError, match=r"[Rr]eset|[Bb]roken"):
            drip(connection)


def drip(connection: socket.socket) -> None:
    for _ in range(3000):
        connection.sendall(b"x")
        time.sleep(0.01)


class Sent:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.what: list[str] = []

    def write_eof(self) -> None:
        self.what.append("eof")

    def resume_reading(self) -> None:
        self.what.append("resumed")

    def close(self) -> None:
        self.what.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.what


def lingering(sent: Sent, patience_s: float = 60, is_in_request: bool = True) -> LingeringTransport:
    made = LingeringTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop(), patience_s)
    made.is_in_request = is_in_request
    return made


def test_between_requests_and_without_patience_closing_is_closing() -> None:
    async def scenario() -> None:
        idle, hurried = Sent(), Sent()
        lingering(idle, is_in_request=False).close()
        lingering(hurried, patience_s=0).close()
        assert idle.what == hurried.what == ["closed"]

    asyncio.run(scenario())


def test_within_a_request_it_takes_some_more_and_then_closes() -> None:
    async def scenario() -> None:
        sent = Sent()
        transport = lingering(sent)
        assert not transport.has_dropped(b"of use")
        transport.close()
        assert transport.is_closing()
        assert transport.has_dropped(bytes(MOST_DROPPED))
        assert sent.what == ["eof", "resumed"]
        assert transport.has_dropped(b"x")
        assert sent.what[2:] == ["closed"]

    asyncio.run(scenario())


def test_a_client_that_has_gone_is_not_waited_for() -> None:
    class Gone(Sent):
        def write_eof(self) -> None:
            raise OSError("not connected")

    async def scenario() -> None:
        sent = Gone()
        lingering(sent).close()
        assert sent.what == ["closed"]

    asyncio.run(scenario())


def test_closing_a_second_time_closes() -> None:
    async def scenario() -> None:
        sent = Sent()
        transport = lingering(sent)
        transport.close()
        transport.close()
        assert sent.what == ["eof", "resumed", "closed"]

    asyncio.run(scenario())
