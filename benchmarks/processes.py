"""Processes under measurement: started, watched and ended; and the load that is put on them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.load import Load

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "board.png"
BUSY_CLIENTS = 16  # as many saturate the demo model on a few cores
READY_S = 180
TICKS = os.sysconf("SC_CLK_TCK")

Figures = Mapping[str, float | str]


class Served:
    """A server process and those that it starts: its address, and what it costs."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self, path: str = "/readyz") -> None:
        """Raises RuntimeError when the process ends instead, or is not ready after READY_S."""
        stop = perf_counter() + READY_S
        while self.process.poll() is None:
            if perf_counter() > stop:
                raise RuntimeError(f"the server was not ready after {READY_S} s")
            try:
                urllib.request.urlopen(f"{self.url}{path}", timeout=10).close()
            except (OSError, urllib.error.URLError):
                sleep(0.05)
            else:
                return
        raise RuntimeError(f"the server ended with code {self.process.returncode} before it was ready")

    def cpu_s(self) -> float:
        """Processor time of all processes so far."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in family(self.process.pid))
        return sum(int(ticks) for stat in stats for ticks in stat.split()[11:13]) / TICKS

    def memory_mib(self, which: str = "VmRSS") -> float:
        """Resident memory of all processes now, or with VmHWM their highest since `forget_peak`, added."""
        text = "\n".join(Path(f"/proc/{pid}/status").read_text() for pid in family(self.process.pid))
        return sum(int(kib) for kib in re.findall(rf"^{which}:\s+(\d+) kB$", text, re.MULTILINE)) / 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        for pid in family(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def signal_all(self, what: signal.Signals) -> None:
        """Send a signal to all processes."""
        for pid in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, what)

    def stop(self) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def service(log: Path, module: str = "service.cli", **settings: object) -> Generator[Served, None, None]:
    """`anomoe serve` with settings, or what a module makes of it."""
    port = free_port()
    chosen = {"port": port, "bundles": "bundles/demo", "log_level": "warning", **settings}
    environment = {f"ANOMOE_{name.upper()}": str(value) for name, value in chosen.items()}
    command = [sys.executable, "-m", module, "serve"]
    with running(Served(command, port, environment, log)) as served:
        yield served


@contextmanager
def plain(log: Path) -> Generator[Served, None, None]:
    """The plain FastAPI application."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.plain", "serve", str(port)]
    with running(Served(command, port, {}, log)) as served:
        yield served


@contextmanager
def running(served: Served, ready: str = "/readyz") -> Generator[Served, None, None]:
    """Wait until a server is ready; at the end no process of it is left."""
    try:
        served.wait_until_ready(ready)
        yield served
    finally:
        if served.process.poll() is None:
            served.signal_all(signal.SIGKILL)
        served.process.wait()


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]
    return [pid, *(one for child in children for one in family(child))]


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


@dataclass(frozen=True)
class Target:
    """Where load is put, the file that is its body, and its content type."""

    url: str
    body: Path
    content_type: str

    def put_load(self, **options: object) -> Load:
        """Put load there until it is over."""
        return put_load(self.url, self.body, type=self.content_type, **options)


def picture_target(served: Served, picture: Path = PICTURE) -> Target:
    """The service, or what answers like it."""
    return Target(f"{served.url}/detect", picture, "image/png")


def put_load(url: str, picture: Path, **options: object) -> Load:
    """Put load on a server until it is over."""
    return end_load(start_load(url, picture, **options))
