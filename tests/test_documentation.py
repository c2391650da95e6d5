"""The commands and programs of the README, the tutorial and the client's page, run as they stand.

They run in a folder of their own with the repository's `docs` and `bundles`; the service listens on a free
port, which takes the place of 8000. Long training, cameras and the making of environments are left out.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import Kind
from tests.service.running import ROOT, ServiceProcess, service_process

pytestmark = pytest.mark.alone

TUTORIAL, CLIENT, README = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "client.md", ROOT / "README.md"
MENTIONED = re.compile(r"`(anomoe(?: [^`]+)+)`")  # commands in sentences
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

soak = pytest.mark.skipif("SOAK_TUTORIAL" not in os.environ, reason="takes minutes; SOAK_TUTORIAL=1 runs it")


def commands(page: Path) -> list[str]:
    """Every indented line that calls something of ours or curl, in order; a trailing backslash goes on."""
    text = page.read_text().replace("\\\n", "")
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return [
        line for line in lines if re.match(r"(\S+=\S+ )*(\.venv/bin/|anomoe|curl|cp|mkdir|export) ?", line)
    ]


def programs(page: Path) -> list[str]:
    """Every Python program, but those that are marked with what they need."""
    return PROGRAM.findall(page.read_text())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("service")
    with service_process(ROOT / "bundles", folder / "log.txt") as process:
        yield process


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder with what the commands find in a checkout."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles")
    return tmp_path


def run(command: str | list[str], sandbox: Path, service: ServiceProcess) -> str:
    """What a command or a program prints; it must end with code 0."""
    environment = {
        **os.environ,
        "ANOMOE_URL": service.url,
        "ANOMOE_STATE_DIR": "state",
        "PATH": f"{sandbox}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
    }
    arguments = ["bash", "-c", command] if isinstance(command, str) else command
    arguments = [argument.replace(":8000", f":{service.port}") for argument in arguments]
    result = subprocess.run(
        arguments, check=False, cwd=sandbox, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_commands_of_the_readme(sandbox: Path, service: ServiceProcess) -> None:
    asked = [line for line in commands(README) if line.startswith("curl ")]
    answers = [run(line.replace("curl ", "curl -sS --fail "), sandbox, service) for line in asked]
    assert '"category":"board"' in answers[0]
    assert '"best":"metal gear"' in answers[1]


def test_what_the_readme_mentions(sandbox: Path, service: ServiceProcess) -> None:
    mentioned = [line for line in MENTIONED.findall(README.read_text()) if not re.search("FOLDER|tune", line)]
    assert len(mentioned) == 3
    for line in mentioned:
        run(line.replace("PICTURES", "docs/board.png"), sandbox, service)
    assert (sandbox / "keys.txt").read_text().startswith("line-7 infer sha256:")


def test_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"(?:^    |`)make ([\w-]+)", README.read_text(), re.MULTILINE))
    assert len(targets) >= 6
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@soak
def test_training_and_export_of_the_readme(sandbox: Path, service: ServiceProcess) -> None:
    run("anomoe-train demo-data pictures --train 12 --test-good 4 --test-defect 1", sandbox, service)
    lines = [line for line in commands(README) if line.startswith(".venv/bin/")]
    assert len(lines) == 3
    for line in lines:
        run(line.replace("<data>", "pictures/board"), sandbox, service)
    assert (sandbox / "bundles" / "mine" / "manifest.json").is_file()


LONG = ("anomoe-train fit", "anomoe-train evaluate", "anomoe-export")


def test_commands_of_the_tutorial(sandbox: Path, service: ServiceProcess) -> None:
    lines = [line for line in commands(TUTORIAL) if not line.startswith(LONG)]
    printed = {line: run(line, sandbox, service) for line in lines}
    assert (sandbox / "maps" / "board.png.map.png").is_file()
    assert (sandbox / "verdicts.csv").read_text().count("\n") > 10
    told = next(text for line, text in printed.items() if line.startswith("curl "))
    assert '"is_anomalous":true' in told
    assert (sandbox / "line-3" / "anomaly" / "board.png").is_file()
    assert len(list((sandbox / "line-3" / "ok").iterdir())) >= 3


@soak
def test_training_and_export_of_the_tutorial(sandbox: Path, service: ServiceProcess) -> None:
    lines = [line for line in commands(TUTORIAL) if line.startswith((*LONG, "anomoe-train"))]
    assert len(lines) == 5
    for line in lines:
        run(line, sandbox, service)
    assert (sandbox / "bundles" / "board" / "manifest.json").is_file()


@pytest.mark.parametrize("page", [TUTORIAL, CLIENT, ROOT / "clients" / "python" / "README.md"])
def test_programs(page: Path, sandbox: Path, service: ServiceProcess) -> None:
    found = programs(page)
    assert found
    for program in found:
        run([sys.executable, "-c", program], sandbox, service)


def test_programs_that_need_more_are_python() -> None:
    found = re.findall(r"^```python \w+\n(.*?)^```", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    ast.parse(found[0])


def test_messages_of_the_service_are_quoted_as_they_are() -> None:
    quoted = re.findall(r"`([A-Z][^`]*) \((\d{3})\)`", TUTORIAL.read_text())
    assert len(quoted) == 8
    assert {(title, int(status)) for title, status in quoted} <= {(one.title, one.status) for one in Kind}
