"""Processes under measurement: started, watched and ended; and the load that is put on them."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from benchmarks.load import Load

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


class Served:
    """A server process: its address, and what it costs."""

    def __init__(self, arguments: list[str], port: int, environment: dict[str, str], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Raises RuntimeError when the process ends instead."""
        while self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=10).close()
            except (OSError, urllib.error.URLError):
                sleep(0.05)
            else:
                return
        raise RuntimeError(f"the server ended with code {self.process.returncode} before it was ready")

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self, which: str = "VmRSS") -> float:
        """Resident memory now, or with VmHWM its highest since `forget_peak`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"{which} is not in the status of the process")

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def service(log: Path, **settings: object) -> Generator[Served, None, None]:
    """`anomoe serve` with settings."""
    port = free_port()
    chosen = {"port": port, "bundles": "bundles/demo", "log_level": "warning", **settings}
    environment = {f"ANOMOE_{name.upper()}": str(value) for name, value in chosen.items()}
    with _running(["-m", "service.cli", "serve"], port, environment, log) as served:
        yield served


@contextmanager
def plain(log: Path) -> Generator[Served, None, None]:
    """The plain FastAPI application."""
    port = free_port()
    with _running(["-m", "benchmarks.plain", "serve", str(port)], port, {}, log) as served:
        yield served


@contextmanager
def _running(
    arguments: list[str], port: int, environment: dict[str, str], log: Path
) -> Generator[Served, None, None]:
    served = Served(arguments, port, environment, log)
    try:
        served.wait_until_ready()
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_load(url: str, picture: Path, **options: object) -> "subprocess.Popen[bytes]":
    """Begin to put load on a server, from a process of its own; see `benchmarks.load`."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.load", url, "--picture", str(picture), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def end_load(process: "subprocess.Popen[bytes]") -> Load:
    """Wait for the end of a load, and read what it tells."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with code {process.returncode}")
    return Load(**json.loads(output))


def put_load(url: str, picture: Path, **options: object) -> Load:
    """Put load on a server until it is over."""
    return end_load(start_load(url, picture, **options))
