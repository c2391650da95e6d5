"""The client against a service that listens on a real port."""

import socket

import httpx
import pytest

from service.client import Client, ClientError
from service.schemas import DetectParameters
from tests.service.conftest import encoded
from tests.tiny_bundle import spotted_picture

ANOMALOUS = encoded(spotted_picture("brick"))


def test_answer_is_parsed(service_url: str) -> None:
    with Client(service_url) as client:
        answer = client.detect(ANOMALOUS, DetectParameters(category="brick", regions=False))
    assert (answer.category, answer.is_anomalous, answer.regions) == ("brick", True, [])


def test_problem_becomes_one_line(service_url: str) -> None:
    with Client(service_url) as client, pytest.raises(ClientError, match=r"Not a picture type \(415\)"):
        client.detect(b"text", DetectParameters())


def test_unreachable_service_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(closed) as client, pytest.raises(ClientError, match=closed):
        client.detect(ANOMALOUS, DetectParameters())


def test_other_server_is_not_believed(service_url: str) -> None:
    with Client(f"{service_url}/docs") as client, pytest.raises(ClientError, match="404"):
        client.detect(ANOMALOUS, DetectParameters())


def test_announced_giant_is_refused_before_it_is_sent(service_url: str) -> None:
    host, port = service_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_endless_body_is_cut_off(service_url: str) -> None:
    chunks = (b"\0" * 2**20 for _ in range(1000))
    response = httpx.post(f"{service_url}/detect", content=chunks, headers={"Content-Type": "image/png"})
    assert response.status_code == 413
    assert next(chunks, None) is not None
