"""The client against servers that answer whatever they like."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from anomoe_client import AsyncClient, Client, ClientError

PICTURE = b"a picture"
ELSEWHERE = "http://line.invalid:8000"
PROBLEM = (
    b'{"type": "urn:anomoe:busy", "title": "The service is full", "status": 429, "detail": "12 wait",'
    b' "request_id": "1"}'
)


@contextmanager
def answering(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that sends `reply` to one request and closes, and the heads of requests."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heads.append(connection.recv(65536))
                connection.sendall(reply)
                with suppress(OSError):  # the client may have gone
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        thread.join()


def reason(url: str, key: str | None = None, timeout_s: float = 10) -> str:
    """The one line that tells why there is no answer."""
    with pytest.raises(ClientError) as caught, Client(url, key=key, timeout_s=timeout_s, retry_s=0) as client:
        client.detect(PICTURE)
    return str(caught.value)


def test_unreachable_service_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(closed) as client, pytest.raises(ClientError, match=closed):
        client.detect(PICTURE)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<h1>502</h1>", "HTTP 502 Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\n\r\n<h1>Welcome</h1>", "not an answer of this service's version"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "peer closed connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n{}", "incorrect header check"),
        (b"", "disconnected without sending a response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://line/detect\r\n\r\n",
            "Moved; Location: https://line/detect",
        ),
    ],
)
def test_whatever_else_is_answered_is_told_with_the_address(reply: bytes, wanted: str) -> None:
    with answering(reply) as (url, _):
        told = reason(url)
    assert told.startswith(f"{url}: ")
    assert wanted in told


def test_full_service_says_when_to_come_back() -> None:
    with answering(b"HTTP/1.1 429 Busy\r\nRetry-After: 3\r\n\r\n" + PROBLEM) as (url, _):
        assert reason(url) == "The service is full (429): 12 wait; Retry-After: 3"


def test_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert reason(url, timeout_s=0.1) == f"{url}: no answer within 0.1 s"


@pytest.mark.parametrize("prefix", ["/line-3", "/line-3/"])
def test_key_goes_along_to_a_service_behind_a_path(prefix: str) -> None:
    with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as (url, heads):
        assert reason(url + prefix, key="anomoe_123") == f"{url}{prefix}: HTTP 404 Not Found"
    assert heads[0].startswith(b"POST /line-3/detect ")
    assert b"\r\nX-API-Key: anomoe_123\r\n" in heads[0]


@pytest.mark.parametrize("key", ["", "two words", "a\nb", "schlüssel", "\ufeffkey"])
def test_key_that_is_none_is_refused_and_not_shown(key: str) -> None:
    told = reason(ELSEWHERE, key=key)
    assert told.startswith("the key ")
    assert not key or key not in told


@pytest.mark.parametrize(
    "url",
    [
        *("line:8000", "127.0.0.1:8000", "ftp://line", "http://", "http:///path", "", " http://line"),
        *("http://line/?category=a", "http://line/#a", "http://line:abc", "http://[::1", "http://xn--"),
    ],
)
def test_address_that_is_none_is_named(url: str) -> None:
    assert reason(url).startswith(f"{url}: ")


def test_host_that_cannot_be_one_is_named() -> None:
    assert reason("http://a..b").startswith("http://a..b: ")


@pytest.mark.parametrize("port", ["99999", "-5"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_port_that_cannot_be_one_is_named(
    kind: type[Client | AsyncClient], port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = f"http://127.0.0.1:{port}: Invalid port"
    with pytest.raises(ClientError, match=wanted):
        kind(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
    with pytest.raises(ClientError, match=f"by the proxy {wanted}"):
        kind(ELSEWHERE)


def test_password_in_an_address_is_not_shown() -> None:
    with answering(b"HTTP/1.1 403 Forbidden\r\n\r\n") as (url, _):
        assert reason(url.replace("//", "//me:secret@")) == f"{url}: HTTP 403 Forbidden"
    assert "secret" not in reason("http://me:secret@line:abc")


@pytest.mark.parametrize(
    ("proxy", "wanted"),
    [
        ("http://me:secret@127.0.0.1:9", "http://127.0.0.1:9: "),
        ("http://me:secret@proxy:x", "http://proxy:x: Invalid port"),
        ("socks://127.0.0.1:9", "socks://127.0.0.1:9: Unknown scheme"),
        ("http://", "http://: "),
    ],
)
def test_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str, wanted: str
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    told = reason(ELSEWHERE)
    assert told.startswith(f"{ELSEWHERE} by the proxy {wanted}")
    assert "secret" not in told


def test_socks_proxy_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    told = reason(ELSEWHERE)
    assert told.startswith(f"{ELSEWHERE} by the proxy socks5://127.0.0.1:9: ")
    assert "socksio" in told


def test_refusal_of_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>") as (proxy, heads):
        monkeypatch.setenv("http_proxy", proxy)
        assert (
            reason(ELSEWHERE) == f"{ELSEWHERE} by the proxy {proxy}: HTTP 407 Proxy Authentication Required"
        )
    assert heads[0].startswith(b"POST http://line.invalid:8000/detect ")


def test_service_without_tls_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _):
        secure = url.replace("http:", "https:")
        assert reason(secure).startswith(f"{secure}: [SSL")


def test_certificates_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    assert "https://127.0.0.1:9: " in reason("https://127.0.0.1:9")
