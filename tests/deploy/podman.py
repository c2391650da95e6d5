"""Podman where no registry can be reached: with stand-ins for the images that others publish."""

import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL = Path(os.environ.get("ANOMOE_CONTAINER_TOOL", ROOT.parent / "shared/tools/container.sh"))
FOLDER = Path(os.environ.get("ANOMOE_CONTAINER_DIR", Path(tempfile.gettempdir()) / "anomoe-containers"))
BASE = "localhost/python:3.11-slim-bookworm"


class PodmanError(RuntimeError):
    """A command that failed; the message is what it said."""


def podman(*arguments: object, program: str = "podman", **environment: str) -> str:
    """What a command of Podman, or of a program that drives it, prints. Raises: PodmanError."""
    return _shell(shlex.join([program, *map(str, arguments)]), environment)


def prepare() -> None:
    """Install Podman and make the base images, unless they are there. Raises: PodmanError."""
    _shell("ctr_setup && ctr_base")
    _shell("command -v catatonit || apt-get install -qq -y --no-install-recommends catatonit")  # of --init
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    podman("tag", BASE, pinned)


def build(context: Path, tag: str, *options: str) -> None:
    """Build an image. Raises: PodmanError."""
    podman("build", "--layers=false", "--pull=never", "--tag", tag, *options, context)


def _shell(command: str, environment: dict[str, str] | None = None) -> str:
    script = f". {shlex.quote(str(TOOL))} {shlex.quote(str(FOLDER))}; {command}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PodmanError(f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout
