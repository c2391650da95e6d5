"""Connections of clients that take their time."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from PIL import Image
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.connection.listener import listen
from service.connection.protocol import protocol_class
from service.metrics import Metrics
from tests.service.conftest import encoded
from tests.service.running import ServiceProcess, connect, service_process, until_closed
from tests.tiny_bundle import plain_picture

pytestmark = pytest.mark.alone

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}
WAIT_S = 60


@pytest.fixture(scope="module")
def service(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with little patience."""
    log = tmp_path_factory.mktemp("connections") / "log"
    with service_process(
        bundle_folder, log, queue_size=4, header_timeout_s=0.3, body_timeout_s=0.4
    ) as running:
        yield running


def slow_header(connection: socket.socket) -> bytes:
    connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nX-Sl")
    return until_closed(connection)


def no_header(connection: socket.socket) -> bytes:
    return until_closed(connection)


def empty_lines(connection: socket.socket) -> bytes:
    connection.sendall(b"\r\n\r\n")
    return until_closed(connection)


def slow_second_header(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"GET /heal")
    return until_closed(connection)


@pytest.mark.parametrize("attack", [slow_header, no_header, empty_lines, slow_second_header])
def test_headers_that_do_not_come_close_the_connection(
    service: ServiceProcess, attack: Callable[[socket.socket], bytes]
) -> None:
    with connect(service) as connection:
        assert b"HTTP/1.1 2" not in attack(connection)


def test_a_body_that_does_not_come_is_408(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:anomoe:too-slow" in answer


def test_a_deadline_cuts_a_slow_body_short(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(
            b"POST /detect HTTP/1.1\r\nHost: x\r\nX-Deadline-Ms: 100\r\nContent-Length: 10\r\n\r\nx"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 504 ")


def test_a_huge_header_is_400(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 200_000)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-request-id: " in answer
    assert b"urn:anomoe:malformed" in answer


def test_nonsense_after_an_answer_closes_the_connection(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = connection.recv(4096)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"no number\r\n")
        assert b" 400 " not in answer + until_closed(connection)
    assert "call failed" not in service.log.read_text()


def test_an_answer_that_nobody_takes_is_dropped(service: ServiceProcess) -> None:
    connections = Path("/proc/net/tcp")
    large = encoded(Image.new("L", (2000, 2000)))
    head = f"POST /detect?map=npy HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(head.encode() + large)
        answer = connection.recv(4096)
        established = f":{service.port:04X} 0100007F:{connection.getsockname()[1]:04X} 01"
        assert established in connections.read_text()
        while established in connections.read_text():
            time.sleep(0.02)
        answer += until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer) < 4 * 2000 * 2000


def test_a_connection_outlasts_a_cameras_pause(service: ServiceProcess) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=WAIT_S) as connection:
        for pause_s in (5.5, 0):  # uvicorn's own limit is 5 s
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):  # headers and body may come one by one
                part = connection.recv(1000)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(pause_s)


def test_slow_uploads_do_not_keep_the_others_out(service: ServiceProcess) -> None:
    """More slow uploads of one client than there are permits: another client still gets in."""
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nX-Client-ID: slow\r\nContent-Length: 1000\r\n\r\nx"
    quick = {**PNG, "X-Client-ID": "quick"}
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(service)) for _ in range(8)]
        for connection in connections:
            connection.sendall(head)
        answers = [httpx.post(f"{service.url}/detect", content=NORMAL, headers=quick) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert {connection.recv(12) for connection in connections} == {b"HTTP/1.1 408", b"HTTP/1.1 429"}


def test_a_request_may_take_longer_than_an_unused_connection_is_kept() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await Response("done")(scope, receive, send)

    async def scenario() -> None:
        config = uvicorn.Config(
            slow, http=protocol_class(5, Metrics()), timeout_keep_alive=0, lifespan="off", log_config=None
        )
        config.timeout_keep_alive = 0.1  # type: ignore[assignment]
        server = uvicorn.Server(config)
        with listen("127.0.0.1", 0) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await reader.readuntil(b"done")
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
            writer.close()
            await writer.wait_closed()
            server.should_exit = True
            await serving

    asyncio.run(scenario())
