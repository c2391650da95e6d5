"""A service that listens on a real port, in this process or in one of its own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from service.connection.server import Server

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[str, None]:
    """The address of an application that is served by the running event loop."""
    server = Server(app, app.state.runtime)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(uvicorn.Server._serve(server, [listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def service_process(
    bundles: Path | str, log: Path, **settings: object
) -> Generator["ServiceProcess", None, None]:
    """`anomoe serve` in a process of its own, ready; killed at the end if it still runs."""
    process = ServiceProcess(bundles, log, settings)
    try:
        process.wait_until_ready()
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


class ServiceProcess:
    """A started service: its address, its process and its log."""

    def __init__(self, bundles: Path | str, log: Path, settings: dict[str, object]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        chosen = {
            "port": port,
            "bundles": bundles,
            "device": "cpu",
            "threads": 1,
            "state_dir": log.with_suffix(".state"),
            **settings,
        }
        environment = {f"ANOMOE_{name.upper()}": str(value) for name, value in chosen.items()}
        with log.open("w") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stderr=stderr,
            )

    def wait_until_ready(self) -> None:
        """Returns when the service answers; raises RuntimeError with its log when it ends instead."""
        for _ in range(1200):
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.popen.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"not ready, exit code {self.popen.poll()}: {self.log.read_text()}")

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)

    def children(self) -> list[str]:
        """Processes that the service started."""
        listing = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return listing.read_text().split() if listing.exists() else []


def connect(service: ServiceProcess) -> socket.socket:
    """A connection to the service."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    received = b""
    try:
        while part := connection.recv(4096):
            received += part
    except ConnectionResetError:
        pass
    return received
