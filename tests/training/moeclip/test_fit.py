"""Whole runs: what is written, and the same bits after a kill."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.moeclip import parallel_fit
from tests.training.moeclip.tiny import MODEL, tiny_backbone, tiny_config, tiny_detector
from tests.training.test_distributed import in_two_processes
from tests.training.tiny_run import quiet_progress
from training.distributed import ParallelError
from training.moeclip import fit as fit_module
from training.moeclip import loop
from training.moeclip.checkpoint import load_run
from training.moeclip.fit import STATE, Report, fit
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.loop import Trainer
from training.moeclip.model.config import MoECLIPConfig
from training.runs import record as record_module
from training.runs.files import WEIGHTS
from training.runs.foreign import WeightsError

ROOT = Path(__file__).parents[3]

# Runs fit in a process that kills itself before a step, so that nothing can be tidied up.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.moeclip.tiny import tiny_backbone, tiny_config
from tests.training.tiny_run import quiet_progress
from training.moeclip.fit import fit
from training.moeclip.loop import Trainer

data, folder, number = sys.argv[1:]
original = Trainer.step

def deadly(trainer, step, rows):
    if step == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(trainer, step, rows)

Trainer.step = deadly
fit(Path(data), Path(folder), tiny_config(), tiny_backbone(), quiet_progress())
"""


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("moeclip") / "run"
    return folder, fit(pictures, folder, tiny_config(), tiny_backbone(), quiet_progress())


def test_a_run_is_written_and_read_again(run: tuple[Path, Report]) -> None:
    folder, report = run
    assert report.classes == ["disc", "square"]
    assert (report.good_pictures, report.anomalous_pictures, report.steps) == (4, 12, 12)
    assert json.loads((folder / "report.json").read_text()) == report.model_dump()
    loaded = load_run(folder, MoECLIPFitConfig)
    assert loaded.config == tiny_config()
    assert not loaded.model.training
    assert not (folder / STATE).exists()
    assert list((folder / "curves").iterdir())


def test_clip_is_that_of_the_backbone(run: tuple[Path, Report]) -> None:
    trained = load_run(run[0]).model.clip.state_dict()
    for name, tensor in tiny_backbone().clip.state_dict().items():
        assert torch.equal(trained[name], tensor), name


@pytest.mark.parametrize("step", [4, 11])
def test_a_killed_run_ends_with_the_same_bits(
    run: tuple[Path, Report], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed before the first state is kept, and long after the last."""
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", KILLED, str(pictures), str(folder), str(step)]
    killed = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (folder / STATE).exists() == (step > 5)
    steps: list[int] = []
    original = Trainer.step

    def spied(self: Trainer, number: int, rows: object) -> object:
        steps.append(number)
        return original(self, number, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", spied)
    report = fit(pictures, folder, tiny_config(), tiny_backbone(), quiet_progress())
    assert steps == list(range((step - 1) // 5 * 5 + 1, 13))
    assert report == run[1]
    expected, found = load_file(run[0] / WEIGHTS), load_file(folder / WEIGHTS)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_other_settings_pictures_or_backbones_start_again(pictures: Path, tmp_path: Path) -> None:
    def key(config: MoECLIPFitConfig, count: int = 4, seed: int = 0) -> str:
        samples = fit_module.find_samples(pictures)[:count]
        return fit_module.state_key(config, samples, tiny_detector(seed=seed))

    first = key(tiny_config())
    assert first == key(tiny_config(save_every=7))
    assert len({first, key(tiny_config(seed=1)), key(tiny_config(), 3), key(tiny_config(), seed=2)}) == 4


def test_another_backbone_than_the_settings_ask_for(pictures: Path, tmp_path: Path) -> None:
    other = MODEL.model_dump()
    other["clip"]["embedding"] = 16
    with pytest.raises(WeightsError, match=r"model\.clip\.embedding: .* 24, the backbone is 16"):
        fit(
            pictures,
            tmp_path,
            tiny_config(),
            tiny_backbone(MoECLIPConfig.model_validate(other)),
            quiet_progress(),
        )


def test_a_batch_that_the_processes_cannot_share_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "world_size", lambda: 3)
    with pytest.raises(ParallelError, match="multiple of the processes 3, got 4"):
        fit(pictures, tmp_path, tiny_config(), tiny_backbone(), quiet_progress())


@pytest.mark.alone
def test_two_processes_train_as_one(pictures: Path, tmp_path: Path) -> None:
    """With nothing random in a step; written once, by the first."""
    fit(pictures, tmp_path / "one", *parallel_fit.SETTINGS, quiet_progress())
    done = in_two_processes("tests.training.moeclip.parallel_fit", pictures, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    start = tiny_detector().state_dict()
    assert not torch.equal(one["moe.0.lora_b"], start["moe.0.lora_b"])
    assert len(list((tmp_path / "two" / "curves").iterdir())) == 1


def test_the_report_holds_means_of_every_loss(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "LOG_EVERY", 4)
    report = fit(pictures, tmp_path / "run", tiny_config(), tiny_backbone(), quiet_progress())
    assert [row["step"] for row in report.losses] == [4, 8, 12]
    assert set(report.losses[0]) == {"step", "focal", "dice", "image", "etf", "balance", "total"}
