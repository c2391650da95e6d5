"""The image of the target cpu: what is in it, and that it works with everything taken away that can be."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median_low

import httpx
import pytest

from tests.deploy.conftest import is_ready, picture, until
from tests.deploy.podman import podman
from tests.service.running import free_port, service_process

pytestmark = [pytest.mark.alone, pytest.mark.slow]

HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--memory-swap=512m",
    "--pids-limit=512",
    "--no-healthcheck",
)
MOST_BYTES = 400_000_000
STARTS = int(os.environ.get("SOAK_STARTS", "2"))


@contextmanager
def container(image: str, name: str, *options: object) -> Iterator[str]:
    """The address of a running container, which shares the host's network."""
    port = free_port()
    address = ("--env", "ANOMOE_HOST=127.0.0.1", "--env", f"ANOMOE_PORT={port}")
    podman("run", "--detach", "--name", name, *HARDENED, *address, *options, image)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        podman("rm", "--force", "--time", 30, name)


def in_container(image: str, *command: str) -> str:
    """What a command prints in a container of its own."""
    return podman("run", "--rm", "--no-healthcheck", "--entrypoint", command[0], image, *command[1:])


def test_it_is_small_and_has_what_serving_needs_only(cpu_image: str) -> None:
    (image,) = json.loads(podman("image", "inspect", cpu_image))
    print(f"size: {image['Size'] / 1e6:.0f} MB")
    assert image["Size"] <= MOST_BYTES
    assert image["Config"]["User"] == "10001:0"
    assert image["Config"]["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert image["Healthcheck"]["Test"][0] == "CMD"  # no shell
    tools = in_container(cpu_image, "sh", "-c", "command -v cc gcc c++ make pip pip3 uv; true")
    packages = in_container(
        cpu_image,
        "sh",
        "-c",
        "find /usr /opt -type d -name torch -o -type d -name pip -o -type d -name ensurepip",
    )
    assert (tools, packages) == ("", "")


def test_it_tells_what_is_in_it(cpu_image: str) -> None:
    bill = json.loads(in_container(cpu_image, "cat", "/opt/venv/sbom.cdx.json"))
    parts = {part["name"]: part for part in bill["components"]}
    installed = json.loads(in_container(cpu_image, "python", "-c", LIST_PACKAGES))
    assert bill["bomFormat"] == "CycloneDX"
    assert set(parts) == set(installed) >= {"anomoe", "onnxruntime", "numpy"}
    assert all(part.get("licenses") for part in parts.values())
    assert "Apache License" in in_container(cpu_image, "cat", "/app/LICENSE")


LIST_PACKAGES = """
import importlib.metadata, json
print(json.dumps([one.name for one in importlib.metadata.distributions()]))
"""


def test_nothing_is_compiled_at_a_start(cpu_image: str) -> None:
    missing = in_container(cpu_image, "python", "-c", LIST_UNCOMPILED)
    assert json.loads(missing) == []


LIST_UNCOMPILED = """
import json, sys
import service.cli.commands, service.run
files = [one.__cached__ for one in sys.modules.values() if getattr(one, "__cached__", None)]
import pathlib
print(json.dumps([one for one in files if not pathlib.Path(one).exists()]))
"""


def test_it_works_hardened_and_keeps_its_state(cpu_image: str) -> None:
    user = f"{random.Random(5).randrange(20_000, 2**31)}:0"
    options = ("--user", user, "--volume", "hardened:/state")
    try:
        with container(cpu_image, "hardened", *options) as url:
            until(lambda: is_ready(url), "the container is not ready")
            answer = httpx.post(f"{url}/detect", content=picture("board.png"), timeout=60)
            assert (answer.status_code, answer.json()["category"]) == (200, "board")
            podman("restart", "--time", 60, "hardened")
            until(lambda: is_ready(url), "the container is not ready again")
            products = httpx.get(f"{url}/drift").json()["products"]
            assert {one["category"]: one["pictures"] for one in products}["board"] == 1
            podman("exec", "hardened", "python", "/app/healthcheck.py")
            files = {"file": picture("gear.png")}
            answer = httpx.post(f"{url}/zero-shot", files=files, data={"class_names": "gear"}, timeout=60)
            assert (answer.status_code, answer.json()["best"]) == (200, "gear")
            status = podman("exec", "hardened", "cat", "/proc/1/status")
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
    finally:
        podman("volume", "rm", "--force", "hardened")


def test_it_stops_with_zero_under_load(cpu_image: str) -> None:
    outcomes: Counter[object] = Counter()
    leaving, stopping = threading.Event(), threading.Event()
    board = picture("board.png")

    def ask(url: str) -> None:
        with httpx.Client(timeout=60) as client:
            while not stopping.is_set():
                try:
                    outcomes[client.post(f"{url}/detect", content=board).status_code] += 1
                except httpx.TransportError:  # it listens no longer, or closed before it read the request
                    outcomes["closed" if leaving.is_set() else "lost"] += 1
                    return

    with container(cpu_image, "stopped") as url:
        until(lambda: is_ready(url), "the container is not ready")
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: outcomes[200] >= 8, "no picture was answered")
        leaving.set()
        podman("stop", "--time", 60, "stopped")
        stopping.set()
        for thread in threads:
            thread.join()
        assert podman("inspect", "--format", "{{.State.ExitCode}}", "stopped").strip() == "0"
    assert set(outcomes) <= {200, 503, "closed"}


def test_a_cold_start_takes_little_more_than_that_of_a_process(cpu_image: str, tmp_path: Path) -> None:
    def contained() -> float:
        began = time.perf_counter()
        with container(cpu_image, "cold") as url:
            until(lambda: is_ready(url), "the container is not ready")
            return time.perf_counter() - began

    def bare() -> float:
        began = time.perf_counter()
        with service_process("bundles", tmp_path / "log", threads=0):
            return time.perf_counter() - began

    pairs = [(contained(), bare()) for _ in range(STARTS)]
    contained_s, bare_s = map(median_low, zip(*pairs, strict=True))
    print(f"cold start: {contained_s:.2f} s in the container, {bare_s:.2f} s as a process")
    assert contained_s <= 2 * bare_s
