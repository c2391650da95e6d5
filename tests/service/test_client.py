"""The client against a service that listens on a real port."""

import socket
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from anomoe_client import Client, Detection, ProblemError, ZeroShotDetection
from service.schemas.detect import DetectAnswer
from service.schemas.zero_shot import ZeroShotAnswer
from tests.service.conftest import encoded
from tests.tiny_bundle import spotted_picture

ANOMALOUS = encoded(spotted_picture("brick"))


def test_answer_is_parsed(service_url: str) -> None:
    with Client(service_url) as client:
        answer = client.detect(ANOMALOUS, category="brick", regions=False)
    assert (answer.category, answer.is_anomalous, answer.regions) == ("brick", True, [])


def test_problem_becomes_one_line(service_url: str) -> None:
    with Client(service_url) as client, pytest.raises(ProblemError, match=r"Not a picture type \(415\)"):
        client.detect(b"text")


def test_other_server_is_not_believed(service_url: str) -> None:
    with Client(f"{service_url}/docs") as client, pytest.raises(ProblemError, match="404"):
        client.detect(ANOMALOUS)


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks://nowhere", "http://p:x"]
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_service_on_this_machine_is_asked_past_proxies(
    service_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,::1/128")
    with Client(service_url) as client:
        assert client.detect(ANOMALOUS).is_anomalous


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


@pytest.mark.parametrize(
    ("own", "answered"), [(Detection, DetectAnswer), (ZeroShotDetection, ZeroShotAnswer)]
)
def test_the_client_tells_every_field_of_an_answer(own: Any, answered: type[BaseModel]) -> None:
    assert set(answered.model_fields) - set(own.__dataclass_fields__) == set()
