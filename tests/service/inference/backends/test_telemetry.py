"""ONNX Runtime reports to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import ROOT
from tests.tiny_bundle import make_tiny_bundle

OPEN = """
import sys
from pathlib import Path
from export.contract.bundle import Bundle
from service.inference.anomalymoe import Engine
Engine(Bundle.read(Path(sys.argv[1])), device="cpu", threads=1)
"""


@pytest.mark.parametrize("first", ["service.run", "export.cli"])
def test_a_loaded_bundle_leaves_nothing_in_the_home_folder(first: str, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", f"import {first}\n{OPEN}", bundle],
        env={**environment, "HOME": str(home)},
        cwd=ROOT,
        check=True,
    )
    assert list(home.iterdir()) == []
