"""An evaluation that was killed goes on: the same figures, and no picture scored twice."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress
from training.anomalymoe.checkpoint import Checkpoint, load_checkpoint
from training.anomalymoe.evaluation import evaluate
from training.anomalymoe.evaluation.evaluate import SERVED, evaluate_checkpoint
from training.anomalymoe.evaluation.protocol import Protocol
from training.data.pictures import Sample
from training.runs.kept_scores import Batch

RELEASED = Protocol(view="paper", normalise="released")
ROOT = Path(__file__).parents[4]

# Evaluates in a process that kills itself before a batch, so that nothing can be tidied up.
KILLED = """
import os, signal, sys
from training.anomalymoe.evaluation import evaluate
from training.cli.main import app

original, left = evaluate._level_maps, [int(sys.argv.pop())]

def deadly(checkpoint, samples, protocol):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(checkpoint, samples, protocol)

evaluate._level_maps = deadly
app()
"""


@pytest.mark.parametrize("protocol", [SERVED, RELEASED], ids=["serving", "released"])
def test_a_killed_evaluation_goes_on(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    output = tmp_path / "figures.json"
    name = "serving" if protocol is SERVED else "released"
    command = f"evaluate {fitted.folder} --data {fitted.data} --batch-size 3 --protocol {name}"
    arguments = [sys.executable, "-c", KILLED, *command.split(), "--output", str(output), "5"]
    killed = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not output.exists()
    state = tmp_path / "figures.json.state"
    seen: list[str] = []
    original = evaluate._level_maps

    def spied(checkpoint: Checkpoint, samples: Sequence[Sample], way: Protocol) -> Batch:
        seen.extend(str(one.path) for one in samples)
        return original(checkpoint, samples, way)

    monkeypatch.setattr(evaluate, "_level_maps", spied)
    checkpoint = load_checkpoint(fitted.folder)
    whole = evaluate_checkpoint(checkpoint, fitted.data, quiet_progress(), protocol, 3)
    every, seen[:] = list(seen), []
    resumed = evaluate_checkpoint(checkpoint, fitted.data, quiet_progress(), protocol, 3, state)
    assert resumed == whole
    assert seen == every[11:]  # batches of three, three and two pictures of one category, three of the next
    assert not state.exists()
