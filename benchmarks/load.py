"""Load from a process of its own: clients that ask one after the other, or requests at a fixed rate.

    python -m benchmarks.load http://127.0.0.1:8000/detect --picture docs/board.png --clients 4 --seconds 10

prints one JSON object: seconds, and of every request begin, duration (seconds), status and Retry-After.
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

LOST = 0  # the status of a request whose connection broke


@dataclass
class Load:
    """What was asked and answered."""

    seconds: float = 0.0
    begins: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    retry_after: list[bool] = field(default_factory=list)

    def add(self, begin: float, status: int, has_retry_after: bool) -> None:
        """Note an answer that has just come."""
        self.begins.append(begin)
        self.durations.append(perf_counter() - begin)
        self.statuses.append(status)
        self.retry_after.append(has_retry_after)

    def rate(self) -> float:
        """Pictures answered a second."""
        return self.statuses.count(200) / self.seconds

    def quantile_ms(self, share: float, status: int = 200) -> float:
        """A quantile of how long the answers of one status took, in milliseconds; nan of nothing."""
        took = sorted(s for s, which in zip(self.durations, self.statuses, strict=True) if which == status)
        return took[min(len(took) - 1, int(share * len(took)))] * 1000 if took else float("nan")


class Asker:
    """Posts one body again and again, over connections that are kept."""

    def __init__(self, url: str, body: bytes, content_type: str, key: str, client: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\n"
            f"X-API-Key: {key}\r\nX-Client-ID: {client}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> tuple[int, bool]:
        """The status of one request and whether Retry-After came with it; LOST without an answer."""
        try:
            connection = (
                self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
            )
            reader, writer = connection
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            return LOST, False
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append(connection)
        return int(head[9:12]), b"retry-after: " in head

    def close(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._idle:
            writer.close()


async def one_after_the_other(asker: Asker, clients: int, seconds: float) -> Load:
    """So many clients, each of which asks again when it has its answer."""
    load, stop = Load(), perf_counter() + seconds

    async def client() -> None:
        while (begin := perf_counter()) < stop:
            load.add(begin, *await asker.ask())

    await asyncio.gather(*(client() for _ in range(clients)))
    return load


async def at_a_rate(asker: Asker, rate: float, seconds: float) -> Load:
    """So many requests a second, whether the earlier ones are answered or not."""
    load, start = Load(), perf_counter()

    async def request() -> None:
        begin = perf_counter()
        load.add(begin, *await asker.ask())

    tasks: list[asyncio.Task[None]] = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - perf_counter()))
        tasks.append(asyncio.create_task(request()))
    await asyncio.gather(*tasks)
    return load


async def run(options: argparse.Namespace) -> Load:
    """The load that the options describe; its seconds are those until the last answer."""
    asker = Asker(options.url, options.picture.read_bytes(), options.type, options.key, options.client)
    start = perf_counter()
    if options.rate:
        load = await at_a_rate(asker, options.rate, options.seconds)
    else:
        load = await one_after_the_other(asker, options.clients, options.seconds)
    load.seconds = perf_counter() - start
    asker.close()
    return load


def main() -> None:
    """Read the options, print the load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--picture", type=Path, required=True, help="the file that is the body")
    parser.add_argument("--type", default="image/png", help="content type")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, instead of clients")
    parser.add_argument("--key", default="none", help="API key")
    parser.add_argument("--client", default="bench", help="client id, for a service without keys")
    print(json.dumps(asdict(asyncio.run(run(parser.parse_args())))))


if __name__ == "__main__":
    main()
