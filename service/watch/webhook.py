"""The lines of a log, posted to somebody in order, each until it is taken: https://www.standardwebhooks.com."""

import asyncio
import hmac
import json
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from time import time

import httpx2

from anomoe_client.proxy import proxy_for
from anomoe_client.retry import seconds_of
from service.watch.journal import Journal, WatchError

CURSOR = ".webhook"  # beside the log: how much of it was taken
TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 60.0
REFUSED_FOR_GOOD = frozenset({400, 413, 415, 422})  # what would be refused again
SECRET_PREFIX = "whsec_"


class Webhook:
    """Where lines go, and how far they went; it is taken up where it was left.

    Lines from before the first start are not sent. Raises: WatchError when the address or the secret is none.
    """

    def __init__(self, url: str, secret: str, journal: Journal, warned: Callable[[str], None]) -> None:
        self._address, self._secret = _address(url), _secret(secret)
        self._journal, self._warned = journal, warned
        self._cursor = journal.path.with_name(CURSOR)
        self.news = asyncio.Event()
        self._is_closing = False
        if not self._cursor.exists() or self._taken() > journal.size():
            self._write(journal.size())

    async def run(self) -> None:
        """Send each line as it comes, until `close`. Raises: OSError."""
        proxy = proxy_for(self._address)
        http = httpx2.AsyncClient(proxy=proxy, trust_env=False, timeout=TIMEOUT_S)
        async with http:
            while True:
                self.news.clear()
                for line in self._journal.lines(self._taken()):
                    await self._send(http, line)
                    self._write(self._taken() + len(line))
                if self._is_closing:
                    return
                await self.news.wait()

    def close(self) -> None:
        """Let `run` end once every line was taken."""
        self._is_closing = True
        self.news.set()

    async def _send(self, http: httpx2.AsyncClient, line: bytes) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            retry_after_s = 0.0
            try:
                response = await http.post(self._address, content=line, headers=self._signed(line))
                if response.is_success:
                    return
                why = f"HTTP {response.status_code} {response.reason_phrase}"
                retry_after_s = seconds_of(response.headers.get("Retry-After", ""))
                if response.status_code in REFUSED_FOR_GOOD:
                    self._warned(f"webhook: {why}: passed over: {line[:200].decode(errors='replace')}")
                    return
            except httpx2.HTTPError as error:
                why = str(error) or type(error).__name__
            wait_s = max(pause_s, retry_after_s)
            self._warned(f"webhook: {why}; tried again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    def _signed(self, line: bytes) -> dict[str, str]:
        identity, timestamp = str(json.loads(line)["id"]), str(int(time()))
        signed = f"{identity}.{timestamp}.".encode() + line
        signature = b64encode(hmac.digest(self._secret, signed, "sha256")).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }

    def _taken(self) -> int:
        """Bytes of the log."""
        return int(self._cursor.read_text())

    def _write(self, taken: int) -> None:
        beside = self._cursor.with_name(f"{CURSOR}-new")
        beside.write_text(str(taken))
        os.replace(beside, self._cursor)  # noqa: PTH105 (whole or not at all)


def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise WatchError(f"webhook: {url}: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise WatchError(f"webhook: {url}: an address like http://HOST/PATH is expected")
    return address


def _secret(text: str) -> bytes:
    """The bytes of a text; of one like whsec_BASE64 what it encodes."""
    if not text:
        raise WatchError("webhook: the secret is empty")
    if not text.startswith(SECRET_PREFIX):
        return text.encode()
    try:
        return b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except Base64Error as error:
        raise WatchError(f"webhook: the secret is not whsec_ and base64: {error}") from error
