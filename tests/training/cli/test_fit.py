"""`anomoe-train fit`: what it writes, and reasons of one line why it does not."""

import shutil
from pathlib import Path

import pytest

from tests.training.cli.invoking import reason, runner
from tests.training.conftest import Fitted
from training.anomalymoe.checkpoint import load_checkpoint
from training.cli import main
from training.data.pictures import DataError
from training.runs.files import CheckpointError
from training.runs.foreign import WeightsError


def test_fit_writes_a_run_and_names_its_categories(fitted: Fitted, settings: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(fitted.folder, output)
    arguments = ["fit", "--data", str(fitted.data), "--output", str(output), "--config", str(settings)]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 categories, disc, square" in " ".join(result.stdout.split())
    assert list(load_checkpoint(output).categories) == ["disc", "square"]


def test_fit_writes_beside_other_runs_by_default(
    fitted: Fitted, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fitted.folder, tmp_path / "runs" / "data")
    result = runner.invoke(main.app, ["fit", "--data", str(fitted.data), "--config", str(settings)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("runs/data: ")


def test_fit_without_pictures_fails(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = runner.invoke(main.app, ["fit", "--data", str(tmp_path / "empty"), "--config", str(settings)])
    assert "no pictures found" in reason(result)


def test_fit_names_a_wrong_setting(fitted: Fitted, settings: Path) -> None:
    settings.write_text(settings.read_text().replace('"batch_size":4', '"batch_size":-4'))
    result = runner.invoke(main.app, ["fit", "--data", str(fitted.data), "--config", str(settings)])
    assert "batch_size" in reason(result)
    assert "-4" in reason(result)


@pytest.mark.parametrize("error", [DataError, WeightsError, CheckpointError, OSError])
def test_fit_passes_on_what_went_wrong(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise error("some.file: does not fit")

    monkeypatch.setattr(main, "fit_checkpoint", refuse)
    result = runner.invoke(main.app, ["fit", "--data", str(fitted.data)])
    assert reason(result) == "anomoe-train: some.file: does not fit"


def test_stopping_says_how_to_go_on(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "fit_checkpoint", stop)
    arguments = ["fit", "--data", str(fitted.data), "--output", str(tmp_path / "run")]
    assert "stopped; the same command goes on" in reason(runner.invoke(main.app, arguments))
