"""`anomoe tune`: what it stores, and that it says first when it cannot."""

from pathlib import Path

import pytest

from service.cli.commands import app
from service.metrics import Metrics
from service.models.loading import load_models
from service.settings import Settings
from tests.service.cli.invoking import runner
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle


def test_tune_stores_what_the_next_start_uses(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "state"))
    zero_shot = make_tiny_zero_shot_bundle(tmp_path / "words")
    result = runner.invoke(app, ["tune", str(bundle_folder), str(zero_shot), "--seconds", "0"])
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "state" / "plans").iterdir())
    lines = result.stdout.splitlines()
    assert sorted(line.rpartition(" ")[2] for line in lines) == [str(file) for file in files]
    settings = Settings.model_validate({"bundles": f"{bundle_folder},{zero_shot}"})
    for model in load_models(settings, Metrics()).all:
        assert model.pipeline.plan.source == "stored"


def test_tune_says_before_it_measures_that_it_cannot_store(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("service.cli.tune.measure_bundle", pytest.fail)
    result = runner.invoke(app, ["tune", str(bundle_folder)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert str(tmp_path / "file") in result.stderr
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "state"))
    missing = runner.invoke(app, ["tune", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "nowhere" in missing.stderr) == (1, True)
    assert runner.invoke(app, ["tune", "--seconds", "-1"]).exit_code == 2
