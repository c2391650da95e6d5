"""On the oldest and the newest Python promised the client passes its tests, and the command works."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.podman import ROOT

UV = shutil.which("uv", path=str(Path(sys.executable).parent))
PYENV = map(str, Path.home().glob(".pyenv/versions/*/bin"))  # its shims are Pythons that do not start
PLAIN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
PLAIN["PATH"] = os.pathsep.join([*PYENV, PLAIN["PATH"]])

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(UV is None, reason="uv is not beside the Python of the tests"),
]


def uv(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(UV), *map(str, arguments), "--quiet"]
    return subprocess.run(command, check=False, cwd=ROOT, env=PLAIN, capture_output=True, text=True)


@pytest.fixture(params=["3.10", "3.13"])
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of an empty environment of a Python that is on this machine."""
    made = uv("venv", "--no-python-downloads", "--python", request.param, tmp_path / "venv")
    if made.returncode:
        pytest.skip(f"no Python {request.param} here: {made.stderr}")
    return tmp_path / "venv" / "bin"


def install(programs: Path, *what: object) -> None:
    installed = uv("pip", "install", "--python", programs / "python", *what)
    if installed.returncode:
        pytest.skip(f"no package index to install {what} from: {installed.stderr}")


def test_the_client_passes_its_tests(programs: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "clients/python", tmp_path / "client", ignore=shutil.ignore_patterns("*.egg-info"))
    install(programs, f"{tmp_path}/client[test]")
    run = [programs / "python", "-m", "pytest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        run, check=False, cwd=tmp_path / "client", env=PLAIN, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_the_client_brings_few_packages(programs: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "clients/python", tmp_path / "client", ignore=shutil.ignore_patterns("*.egg-info"))
    install(programs, tmp_path / "client")
    listed = json.loads(uv("pip", "list", "--python", programs / "python", "--format", "json").stdout)
    names = {one["name"] for one in listed}
    assert "anomoe-client" in names
    assert len(names) <= 11, names


def test_the_command_judges_a_picture(programs: Path) -> None:
    install(programs, "--constraint", "constraints.txt", "--editable", ".[cpu]")
    judge = [programs / "anomoe", "detect", "docs/board.png", "--bundle", "bundles/demo", "--json"]
    result = subprocess.run(judge, check=False, cwd=ROOT, env=PLAIN, capture_output=True, text=True)
    assert '"category": "board"' in result.stdout, result.stderr
