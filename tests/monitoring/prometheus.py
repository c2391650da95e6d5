"""A real Prometheus with the rules of this project, which scrapes a service every second."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

RULES = Path(__file__).parents[2] / "docker" / "prometheus" / "rules"
WAIT_S = 300  # for what comes within a few seconds on a machine with nothing else to do
LATENCY = ("AnomoeLatencyBurnsFast", "AnomoeLatencyBurnsSlowly")
BUSY = {"AnomoeDown", *LATENCY}  # fire where the machine takes more than a second for a scrape or a picture
UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Prometheus:
    """Its answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    def lines(self, expression: str, seconds: float) -> list[dict[str, Any]]:
        """The series of the last seconds, a value each second."""
        now = time.time()
        span = {"start": now - seconds, "end": now, "step": 1}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params={"query": expression, **span}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, *alerts: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until they fire, and do something again and again until then."""

        def all_fire() -> bool:
            meanwhile()
            return set(alerts) <= self.firing()

        wait_until(all_fire, lambda: (alerts, self.firing()))


def wait_until(reached: Callable[[], bool], what: Callable[[], object]) -> None:
    """Ask until it is so; an AssertionError tells what was instead."""
    ends = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < ends, what()
        time.sleep(0.5)


def hurried(rules: str, shorter: int) -> str:
    """Rules whose alerts fire at once, and whose windows and offsets are so many times shorter."""

    def window(duration: "re.Match[str]") -> str:
        return f"{int(duration[1]) * UNITS_MS[duration[2]] // shorter}ms"

    return re.sub(r"\b(\d+)([mhd])\b", window, re.sub(r"\n +for: \w+", "", rules))


@contextmanager
def prometheus(folder: Path, target: str, shorter: int = 1) -> Generator[Prometheus, None, None]:
    """It runs while the context lasts, and asks `target` (host:port). shorter: see `hurried`."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules" / "*.yml")],
        "scrape_configs": [{"job_name": "anomoe", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "rules").mkdir(parents=True)
    for file in RULES.glob("*.yml"):
        (folder / "rules" / file.name).write_text(hurried(file.read_text(), shorter))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    binary = shutil.which("prometheus")
    assert binary
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([binary, *options], cwd=folder, stdout=log, stderr=log)
    served = Prometheus(f"http://{address}")
    try:
        wait_until(lambda: _is_ready(served, process), (folder / "log").read_text)
        yield served
    finally:
        process.terminate()
        process.wait()


def _is_ready(served: Prometheus, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, json.dumps(process.args)
    try:
        return httpx.get(f"{served.url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
