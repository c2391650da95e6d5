"""The service installs where there is no package index, from a folder of wheels, and serves."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import is_ready, picture, until
from tests.deploy.podman import ROOT
from tests.service.running import free_port

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="the versions are locked for Python 3.11 and later"
    ),
]
LOCK = ROOT / "docker/requirements/cpu.txt"
PLAIN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def pip(*arguments: object) -> None:
    """Raises: CalledProcessError."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, cwd=ROOT, env=PLAIN)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is locked for serving, and the project."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    try:
        pip("download", "--require-hashes", "--only-binary=:all:", "-r", LOCK, "-d", folder)
        pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no package index to fill a wheelhouse from: {error}")
    return folder


def test_it_installs_and_serves_without_an_index(wheelhouse: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    found = ("--no-index", "--find-links", wheelhouse)
    pip("--python", python, "install", "--no-compile", *found, "anomoe[cpu]")
    port = free_port()
    settings = {"ANOMOE_PORT": str(port), "ANOMOE_BUNDLES": str(ROOT / "bundles/demo")}
    process = subprocess.Popen(
        [tmp_path / "venv/bin/anomoe", "serve"], cwd=tmp_path, env={**PLAIN, **settings}
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or is_ready(url), "the service is not ready")
        answer = httpx.post(f"{url}/detect", content=picture("board.png"), timeout=60)
        assert (answer.status_code, answer.json()["category"]) == (200, "board")
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
