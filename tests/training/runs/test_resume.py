"""State files: all kinds of state come back as they were; other settings, leftovers and damage are seen."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress, tiny_config
from training.anomalymoe.fit import BACKBONE, BACKBONE_KEY, EXPERTS_STATE, fit
from training.anomalymoe.fit_config import FitConfig
from training.anomalymoe.loop import Trainer
from training.backbones.offline import pretext
from training.runs.files import WEIGHTS
from training.runs.record import Record
from training.runs.resume import Resume, ResumeError, fingerprint
from training.stable_adamw import StableAdamW

ROOT = Path(__file__).parents[3]

# Runs fit in a process that kills itself at the n-th step of the experts, so that nothing can be tidied up.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.tiny_run import quiet_progress
from training.anomalymoe.checkpoint import read_config
from training.anomalymoe.fit import fit
from training.anomalymoe.loop import Trainer

data, folder, config, number = sys.argv[1:]
original = Trainer.step

def deadly(trainer, step, chosen):
    if step == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(trainer, step, chosen)

Trainer.step = deadly
fit(Path(data), Path(folder), read_config(Path(config)), None, quiet_progress())
"""


class Notes:
    """A part of a state that is neither module nor optimiser."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict


def stepped(seed: int) -> tuple[nn.Linear, StableAdamW]:
    """A layer and its optimiser after three steps."""
    torch.manual_seed(seed)
    layer = nn.Linear(3, 2)
    optimiser = StableAdamW(layer.parameters())
    for _ in range(3):
        step(layer, optimiser, torch.randn(4, 3))
    return layer, optimiser


def step(layer: nn.Linear, optimiser: StableAdamW, given: Tensor) -> None:
    optimiser.zero_grad()
    layer(given).square().sum().backward()
    optimiser.step()


def test_a_module_and_its_optimiser_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    layer, optimiser = stepped(0)
    resume = Resume(tmp_path / "run" / "state", "key", every=3)
    resume.save(3, {"layer": layer, "optimiser": optimiser})
    other, other_optimiser = stepped(1)
    assert resume.load({"layer": other, "optimiser": other_optimiser}) == 3
    step(layer, optimiser, torch.ones(4, 3))
    step(other, other_optimiser, torch.ones(4, 3))
    for one, same in zip(layer.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_numbers_texts_and_shared_or_strided_tensors_come_back(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    state = {
        "rate": 0.1,
        "names": ["a", "b"],
        "nothing": None,
        "by_number": {0: base, 7: base.T},
        "empty": {},
    }
    Resume(tmp_path / "state", "key", 1, {"notes": Notes(**state)}).save(1, {})
    found = Notes()
    assert Resume(tmp_path / "state", "key", 1, {"notes": found}).load({}) == 1
    tensors = found.state.pop("by_number")
    assert found.state == {name: value for name, value in state.items() if name != "by_number"}
    assert torch.equal(tensors[0], base)
    assert torch.equal(tensors[7], base.T)


def test_a_state_is_saved_every_so_many_steps(tmp_path: Path) -> None:
    resume = Resume(tmp_path / "state", "key", every=5)
    resume.save(4, {"notes": Notes(a=1)})
    assert not resume.path.exists()
    for number in (5, 6):
        resume.save(number, {"notes": Notes(a=number)})
    assert resume.load({"notes": Notes()}) == 5


def test_a_state_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    Resume(tmp_path / "state", "key", 1).save(1, {"notes": Notes(a=1)})
    notes = Notes(a=2)
    assert Resume(tmp_path / "state", "other", 1).load({"notes": notes}) == 0
    assert notes.state == {"a": 2}


def test_no_state_is_no_step_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    resume = Resume(tmp_path / "state", "key", 1)
    resume.remove()
    assert resume.load({}) == 0
    resume.save(1, {})
    resume.remove()
    assert resume.load({}) == 0


def test_a_run_killed_while_writing_leaves_the_former_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = Resume(tmp_path / "state", "key", 1)
    resume.save(1, {"notes": Notes(a=torch.ones(2))})

    def half(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(resume.path.read_bytes()[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr("training.runs.resume.save_file", half)
    with pytest.raises(KeyboardInterrupt):
        resume.save(2, {"notes": Notes(a=torch.zeros(2))})
    notes = Notes()
    assert resume.load({"notes": notes}) == 1
    assert notes.state["a"].tolist() == [1, 1]


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    resume = Resume(tmp_path / "state", "key", 1)
    resume.path.write_bytes(b"damaged")
    with pytest.raises(ResumeError, match=r"state: cannot be read, remove it to start again"):
        resume.load({})


def test_a_fingerprint_tells_settings_and_data_apart() -> None:
    pixels = np.zeros((2, 2), np.uint8)
    known = fingerprint("settings", [pixels])
    assert known == fingerprint("settings", [pixels.copy()])
    assert known != fingerprint("other", [pixels])
    assert known != fingerprint("settings", [pixels + 1])


def saving_often(**changes: Any) -> FitConfig:
    """The tiny settings with a state every other step."""
    config = tiny_config(**changes)
    assert config.pretext is not None
    often = {"save_every": 2}
    parts = {"train": config.train, "pretext": config.pretext}
    return config.model_copy(update={name: part.model_copy(update=often) for name, part in parts.items()})


def spied(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """The arguments of all calls of a function from now on."""
    calls: list[tuple[Any, ...]] = []
    original = getattr(owner, name)

    def spy(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(owner, name, spy)
    return calls


def test_a_killed_run_ends_as_one_that_was_not(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = tmp_path / "run", tmp_path / "config.json"
    config.write_text(saving_often().model_dump_json())
    folder.mkdir()
    for name in (BACKBONE, BACKBONE_KEY):
        shutil.copy(fitted.folder / name, folder)
    command = [sys.executable, "-c", KILLED, fitted.data, folder, config, "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / EXPERTS_STATE).is_file()
    steps = spied(monkeypatch, Trainer, "step")
    fit(fitted.data, folder, saving_often(), None, quiet_progress())
    assert [arguments[1] for arguments in steps] == [9, 10, 11, 12]
    assert not (folder / EXPERTS_STATE).exists()
    weights, expected = load_file(folder / WEIGHTS), load_file(fitted.folder / WEIGHTS)
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[name]), name
    losses, unbroken = (
        json.loads((one / "report.json").read_text())["losses"] for one in (folder, fitted.folder)
    )
    assert losses == unbroken


@pytest.mark.parametrize("changes", [{}, {"train": tiny_config().train.model_copy(update={"seed": 1})}])
def test_only_the_same_settings_go_on(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Stopped at the tenth step; with other settings the backbone is kept and the experts start again."""

    def stop_at_ten(self: Record, step: int, *arguments: Any) -> bool:
        if step == 10:
            raise KeyboardInterrupt
        return original(self, step, *arguments)

    original = Record.add
    with monkeypatch.context() as patch:
        patch.setattr(Record, "add", stop_at_ten)
        with pytest.raises(KeyboardInterrupt):
            fit(fitted.data, tmp_path / "run", saving_often(), None, quiet_progress())
    steps = spied(monkeypatch, Trainer, "step")
    backbone_steps = spied(monkeypatch, pretext, "pretext_loss")
    fit(fitted.data, tmp_path / "run", saving_often(**changes), None, quiet_progress())
    assert len(steps) == (12 if changes else 4)
    assert backbone_steps == []
