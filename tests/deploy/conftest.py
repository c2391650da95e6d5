"""The image of the target cpu, built once."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.deploy.podman import FOLDER, ROOT, TOOL, PodmanError, build, podman, prepare

PROJECT = "anomoe-test"


@pytest.fixture(scope="session")
def cpu_image() -> Iterator[str]:
    """The name of the image, which is removed at the end."""
    if not TOOL.is_file() or platform.system() != "Linux" or os.geteuid() != 0:
        pytest.skip(f"images are built by root on Linux, with {TOOL.name} beside the checkout")
    try:
        prepare()
    except PodmanError as error:
        pytest.skip(f"no Podman or base image in {FOLDER}: {error}")
    build(ROOT, "localhost/anomoe:latest", "--target", "cpu", "--build-arg", "VERSION=1.2.3")
    yield "localhost/anomoe:latest"
    podman("rmi", "--force", "localhost/anomoe:latest")


def until(fulfilled: Callable[[], bool], what: str) -> None:
    """Wait for something, of servers that may not listen yet; raises TimeoutError after some minutes."""
    for _ in range(2400):
        with suppress(httpx.TransportError):
            if fulfilled():
                return
        time.sleep(0.1)
    raise TimeoutError(what)


def is_ready(url: str) -> bool:
    """Whether the service there answers pictures. Raises: httpx.TransportError."""
    return httpx.get(f"{url}/readyz", timeout=5).status_code == 200


def picture(name: str) -> bytes:
    """A picture of the documentation."""
    return Path(ROOT / "docs" / name).read_bytes()
