"""Lines of the log posted: signed, in order, again until they are taken."""

import asyncio
import hmac
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.watch import webhook as module
from service.watch.journal import Journal, WatchError
from service.watch.webhook import Webhook

SECRET = "a secret of some length"


class Gateway:
    """A server that answers with `statuses` in turn, then 200, and keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.received: list[tuple[dict[str, str], bytes]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gateway.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(gateway.statuses.pop(0) if gateway.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/verdicts"

    @property
    def ids(self) -> list[str]:
        """Of what was sent, in order."""
        return [headers["webhook-id"] for headers, _ in self.received]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "watch.jsonl")) as opened:
        yield opened


def send(journal: Journal, gateway: Gateway, *entries: dict[str, object], secret: str = SECRET) -> list[str]:
    """Post new entries, in a process that begins and ends; gives what was warned of."""
    warned: list[str] = []

    async def work() -> None:
        hook = Webhook(gateway.url, secret, journal, warned.append)
        for entry in entries:
            journal.append(entry)
        hook.close()
        await hook.run()

    thread = threading.Thread(target=gateway.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        asyncio.run(work())
    finally:
        gateway.server.shutdown()
        thread.join()
        gateway.server.server_close()
    return warned


def test_lines_come_in_order_and_signed(journal: Journal) -> None:
    gateway = Gateway()
    assert send(journal, gateway, {"id": "1", "moved_to": "ok/a.png"}, {"id": "2"}) == []
    assert gateway.ids == ["1", "2"]
    headers, body = gateway.received[0]
    assert json.loads(body) == {"id": "1", "moved_to": "ok/a.png"}
    signed = b"1." + headers["webhook-timestamp"].encode() + b"." + body
    wanted = b64encode(hmac.new(SECRET.encode(), signed, "sha256").digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


def test_the_signature_is_that_of_the_standard(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the Standard Webhooks specification."""
    monkeypatch.setattr(module, "time", lambda: 1614265330)
    hook = Webhook("http://gateway", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", journal, print)
    body = b'{"test": 2432232314}'
    monkeypatch.setattr(module.json, "loads", lambda _: {"id": "msg_p5jXN8AQM9LWM0D4loKWxJek"})
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert hook._signed(body)["webhook-signature"] == wanted


def test_a_line_is_sent_until_it_is_taken(journal: Journal) -> None:
    gateway = Gateway(500, 401, 429)
    warned = send(journal, gateway, {"id": "1"}, {"id": "2"})
    assert gateway.ids == ["1", "1", "1", "1", "2"]
    assert [line.split(";")[0] for line in warned] == [
        "webhook: HTTP 500 Internal Server Error",
        "webhook: HTTP 401 Unauthorized",
        "webhook: HTTP 429 Too Many Requests",
    ]


def test_a_line_that_would_be_refused_again_is_passed_over_and_told(journal: Journal) -> None:
    gateway = Gateway(422)
    warned = send(journal, gateway, {"id": "1"}, {"id": "2"})
    assert gateway.ids == ["1", "2"]
    assert len(warned) == 1
    assert 'passed over: {"id":"1"}' in warned[0]


def test_lines_from_before_are_not_sent_and_those_left_are(journal: Journal) -> None:
    journal.append({"id": "old"})
    first = Gateway()
    send(journal, first, {"id": "1"})
    journal.append({"id": "2"})  # and the process ends before it is sent
    second = Gateway()
    send(journal, second, {"id": "3"})
    assert (first.ids, second.ids) == (["1"], ["2", "3"])


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("gateway:80", SECRET, "gateway:80: an address like"),
        ("http://[::1", SECRET, "http://[::1: "),
        ("http://gateway", "", "the secret is empty"),
        ("http://gateway", "whsec_?", "not whsec_ and base64"),
    ],
)
def test_what_is_none_is_refused(journal: Journal, url: str, secret: str, words: str) -> None:
    with pytest.raises(WatchError) as caught:
        Webhook(url, secret, journal, print)
    assert str(caught.value).startswith("webhook: ")
    assert words in str(caught.value)
