"""The training command: usage, help, demo pictures, imported weights."""

from pathlib import Path

import pytest

from tests.training.cli.invoking import reason, runner
from tests.training.tiny_run import vit_run_config
from training.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "--data", "nowhere"],
        ["fit", "--data", ".", "--backbone", "resnet"],
        ["fit", "--data", ".", "--config", "nowhere.json"],
        ["evaluate", "nowhere", "--data", "."],
        ["evaluate", ".", "--data", ".", "--protocol", "half"],
        ["import-weights", "nowhere.pth"],
        ["calibrate", "nowhere", "--data", "."],
        ["analyse", ".", "--data", "."],
        ["macs", "--backbone", "resnet"],
        ["ablate", "--data", "."],
        ["unknown"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 2, result.output
    assert "Usage:" in result.stderr


def test_demo_data_draws_all_products(tmp_path: Path) -> None:
    counts = ["--train", "1", "--test-good", "1", "--test-defect", "0", "--size", "32"]
    result = runner.invoke(main.app, ["demo-data", str(tmp_path / "demo"), *counts])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "demo").glob("*/train/good/*.png"))) == 3
    assert len(list((tmp_path / "demo").glob("*/test/good/*.png"))) == 3


def test_import_names_the_file_and_the_tensor(released: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(vit_run_config().model_dump_json().replace('"code":6', '"code":5'))
    arguments = [
        "import-weights",
        str(released),
        "--output",
        str(tmp_path / "run"),
        "--config",
        str(settings),
    ]
    found = reason(runner.invoke(main.app, arguments))
    assert f"{released}: " in found
    assert "component_experts.0.decoder.1.bias (6,) instead of (5,)" in found


@pytest.mark.parametrize(
    "command", ["fit", "evaluate", "demo-data", "import-weights", "calibrate", "analyse", "macs", "ablate"]
)
def test_help_shows_an_example(command: str) -> None:
    result = runner.invoke(main.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"anomoe-train {command} " in result.stdout
