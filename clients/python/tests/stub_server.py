"""A server that answers as the service would, and misbehaves as it is told; in a thread of its own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ANSWER = {
    "model": {"name": "stub", "version": "1", "digest": "sha256:0"},
    "category": "board",
    "category_source": "request",
    "score": 0.4,
    "raw_score": 0.1,
    "threshold": 0.15,
    "p_value": 0.5,
    "alpha": 0.01,
    "is_anomalous": False,
    "verdict": "normal",
    "reason": None,
    "distance": 0.1,
    "distance_limit": 1.0,
    "levels": {"patch": {"score": 0.4, "weight": 1.0}},
    "experts": [{"level": "patch", "index": 0, "weight": 1.0}],
    "regions": [],
    "anomaly_map": None,
    "timings_ms": {"total": 1.0},
    "batch_size": 1,
}


@dataclass
class StubServer:
    """`faults` of a picture are what its first requests meet: a status, `drop`, `cut` or `restart`.

    The answer to a picture has its bytes as the request id. seen: requests for each picture; heads: of all.
    """

    faults: dict[str, list[int | str]] = field(default_factory=dict)
    refusal: str = "Retry-After: 0\r\n"
    seen: dict[str, int] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0
    port: int = 0
    down_s: float = 0.05
    _at_once: int = 0
    _stop: asyncio.Event = field(init=False)
    _restart: asyncio.Event = field(init=False)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its address, which stays through restarts."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["StubServer"]:
        """Listen while the context lasts."""
        loop, ready = asyncio.new_event_loop(), threading.Event()

        async def live() -> None:
            self._stop, self._restart = asyncio.Event(), asyncio.Event()
            await self._listen()
            ready.set()
            restarting = asyncio.ensure_future(self._restart_when_told())
            await self._stop.wait()
            restarting.cancel()
            await self._close()

        thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join()
            loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.001)

    async def _restart_when_told(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            await self._close()
            await asyncio.sleep(self.down_s)
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
        picture = (await reader.readexactly(int(length.partition(":")[2]))).decode()
        self.heads.append(head)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        number = self.seen.get(picture, 0)
        self.seen[picture] = number + 1
        faults = self.faults.get(picture, [])
        fault = faults[number] if number < len(faults) else 200
        if fault == "restart":
            self._restart.set()
            return False
        if fault == "drop":
            return False
        body = json.dumps({**ANSWER, "request_id": picture} if fault == 200 else _problem(fault)).encode()
        if fault == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:20])
            return False
        told = "" if fault == 200 else self.refusal
        writer.write(f"HTTP/1.1 {fault} X\r\n{told}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True


def _problem(status: int | str) -> dict[str, object]:
    return {"type": "urn:anomoe:x", "title": "No", "status": status, "detail": "as told", "request_id": "1"}
