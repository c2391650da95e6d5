"""What clients send that is hardly HTTP, and what they seldom ask."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.connection.protocol import MOST_HEAD_BYTES
from tests.service.conftest import encoded
from tests.service.running import ServiceProcess, connect, service_process, until_closed
from tests.tiny_bundle import plain_picture

pytestmark = pytest.mark.alone

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def service(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with little patience."""
    log = tmp_path_factory.mktemp("http") / "log"
    with service_process(
        bundle_folder, log, queue_size=4, header_timeout_s=0.3, body_timeout_s=0.4
    ) as running:
        yield running


def post(*lines: bytes, body: bytes = NORMAL) -> bytes:
    """A request for /detect with further header lines."""
    head = [b"POST /detect HTTP/1.1", b"Host: x", b"Content-Type: image/png", *lines]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and whole of the next answers."""
    with connection.makefile("rb") as stream:
        got: list[tuple[int, bytes]] = []
        for _ in range(count):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                assert line, (got, head)
                head += line
            body = stream.read(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            got.append((int(head[9:12]), head + body))
    return got


UPGRADES = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"]


def test_an_offer_to_upgrade_is_declined_and_its_picture_judged(service: ServiceProcess) -> None:
    """As Java's client makes one with its first request."""
    request = post(*UPGRADES)
    with connect(service) as connection:
        for cut in (len(request), len(request) - len(NORMAL), len(request) - 10, 30):
            connection.sendall(request[:cut])
            time.sleep(0.05)
            connection.sendall(request[cut:])
            ((status, answer),) = answers(connection, 1)
            assert status == 200
            assert b'"is_anomalous":false' in answer


@pytest.mark.parametrize(
    "asked", [b"GET /healthz HTTP/1.0\r\n\r\n", post(b"Connection: close")], ids=["1.0", "close"]
)
def test_an_offer_on_a_connection_that_is_not_kept_is_declined(service: ServiceProcess, asked: bytes) -> None:
    """As nginx makes one that hands the header on, and speaks HTTP/1.0."""
    line, rest = asked.split(b"\r\n", 1)
    with connect(service) as connection:
        connection.sendall(b"\r\n".join([line, *UPGRADES, rest]))
        assert until_closed(connection).startswith(b"HTTP/1.1 200 ")


def test_many_offers_at_once_are_declined_one_by_one(service: ServiceProcess) -> None:
    offer = b"\r\n".join([b"GET /healthz HTTP/1.1", b"Host: x", *UPGRADES, b"", b""])
    with connect(service) as connection:
        connection.sendall(offer * 1000)
        assert {status for status, _ in answers(connection, 1000)} == {200}


@pytest.mark.parametrize("pause_s", [0, 0.02])
@pytest.mark.parametrize("name", [b"X-Big: ", b"X-Many: 1\r\n" * 7000 + b"X: "])
def test_a_head_that_is_too_long_is_400_whole_or_in_pieces(
    service: ServiceProcess, pause_s: float, name: bytes
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + name + b"x" * MOST_HEAD_BYTES + b"\r\n\r\n"
    with connect(service) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for place in range(0, len(head), 10_000 if pause_s else len(head)):
                connection.sendall(head[place : place + (10_000 if pause_s else len(head))])
                time.sleep(pause_s)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ") or (pause_s and not answer)  # reset while still sending


def test_a_long_picture_in_one_byte_chunks_is_no_long_head(service: ServiceProcess) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in NORMAL) + b"0\r\n\r\n"
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(head + chunks)
        assert answers(connection, 1)[0][0] == 200


def test_what_follows_a_body_is_no_header(service: ServiceProcess) -> None:
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\nX-Request-ID: late\r\n\r\n" % (len(NORMAL), NORMAL)
    with connect(service) as connection:
        connection.sendall(head + body)
        ((status, answer),) = answers(connection, 1)
    assert status == 200
    assert b"late" not in answer


def test_trailers_without_end_close_the_connection(service: ServiceProcess) -> None:
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    with connect(service) as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(head)
        for _ in range(1000):
            connection.sendall(b"X-More: " + b"x" * 10_000 + b"\r\n")
            time.sleep(0.001)
        pytest.fail("10 MB of trailers were taken")


@pytest.mark.parametrize("more", [0, 1, 2])
def test_what_was_asked_before_nonsense_is_answered(service: ServiceProcess, more: int) -> None:
    with connect(service) as connection:
        connection.sendall(
            post() + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * more + b"no request\r\n\r\n"
        )
        assert [status for status, _ in answers(connection, 1 + more)] == [200] * (1 + more)
        assert until_closed(connection) == b""


@pytest.mark.parametrize("line", [b"GET http://[/ HTTP/1.1", b"NONE / HTTP/1.1"])
def test_a_bad_request_line_does_not_take_the_answer_before_it(service: ServiceProcess, line: bytes) -> None:
    with connect(service) as connection:
        connection.sendall(post() + line + b"\r\nHost: x\r\n\r\n")
        assert answers(connection, 1)[0][0] == 200
        assert b"HTTP/1.1 200" not in until_closed(connection)


def test_a_broken_body_does_not_cost_the_answer_before_it(service: ServiceProcess) -> None:
    broken = b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n"
    with connect(service) as connection:
        connection.sendall(post() + broken)
        assert answers(connection, 1)[0][0] == 200
        assert b"HTTP/1.1 200" not in until_closed(connection)


def test_half_a_request_does_not_cost_the_answer_before_it(bundle_folder: Path, tmp_path: Path) -> None:
    large = encoded(Image.effect_noise((3000, 3000), 60))
    with (
        service_process(bundle_folder, tmp_path / "log", header_timeout_s=0.25) as running,
        connect(running) as connection,
    ):
        connection.sendall(post(body=large) + b"GET /heal")
        assert answers(connection, 1)[0][0] == 200
        assert until_closed(connection) == b""


def test_a_broken_chunk_is_400_and_gives_its_place_back(service: ServiceProcess) -> None:
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(8):
        with connect(service) as connection:
            connection.sendall(head + b"no number\r\n")
            assert until_closed(connection).startswith(b"HTTP/1.1 400 ")
    assert httpx.post(f"{service.url}/detect", content=NORMAL, headers=PNG).status_code == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"CONNECT x:80 HTTP/1.1",
        "GET /\u00e9 HTTP/1.1".encode(),
        b"GET / HTTP/9.9.9",
        b"GET http://[/ HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_what_is_no_request_is_400(service: ServiceProcess, request_line: bytes) -> None:
    with connect(service) as connection:
        connection.sendall(request_line + b"\r\nHost: x\r\n\r\n")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:anomoe:malformed" in answer
    assert re.search(rb"server-timing: total;dur=[0-9]+\.[0-9]{3}\r\n", answer)
    assert b"\r\nconnection: close\r\n" in answer
    request_id = json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"]
    (logged,) = (json.loads(line) for line in service.log.read_text().splitlines() if request_id in line)
    assert (logged["status"], bool(logged["reason"])) == (400, True)
    names = {line.partition(b":")[0].decode() for line in answer.partition(b"\r\n\r\n")[0].splitlines()[1:]}
    other = httpx.get(f"{service.url}/nowhere")
    assert names == {*other.headers, "connection"}
    text = httpx.get(f"{service.url}/metrics").text
    assert re.search(r'anomoe_requests_total\{endpoint="unmatched",status="400"\} [1-9]', text)
    unmatched = (json.loads(line) for line in service.log.read_text().splitlines() if "/nowhere" in line)
    assert {frozenset(line) for line in unmatched} == {frozenset(logged)}


def test_heads_are_those_of_get_without_a_body(service: ServiceProcess) -> None:
    with httpx.Client(base_url=service.url) as client:
        for path in ("/healthz", "/readyz", "/models"):
            head, whole = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == str(len(whole.content))
        refused = client.head("/detect")
        assert (refused.status_code, refused.headers["Allow"], refused.content) == (405, "POST", b"")
