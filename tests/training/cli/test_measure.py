"""`anomoe-train evaluate` and `calibrate`: figures, protocols, products that are added."""

import json
import shutil
from pathlib import Path

from tests.training.cli.invoking import reason, runner
from tests.training.conftest import Fitted
from tests.training.tiny_run import vit_run_config
from training.cli import main
from training.runs.files import WEIGHTS


def test_data_may_be_given_in_several_places(fitted: Fitted, tmp_path: Path) -> None:
    run = shutil.copytree(fitted.folder, tmp_path / "run")
    places = [argument for name in ("disc", "square") for argument in ("--data", str(fitted.data / name))]
    result = runner.invoke(main.app, ["evaluate", str(run), *places])
    assert result.exit_code == 0, result.output
    twice = runner.invoke(main.app, ["evaluate", str(run), "--data", str(fitted.data), *places])
    assert "category 'disc': in" in reason(twice)


def test_masks_belong_to_the_protocol_of_the_paper(fitted: Fitted) -> None:
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data), "--masks", "."]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 2
    assert "--masks" in result.output


def test_evaluate_prints_and_writes_the_figures(fitted: Fitted, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data), "--output", str(output)]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    for word in ("disc", "square", "mean", "logical_missing", "AUPRO"):
        assert word in result.stdout
    written = json.loads(output.read_text())
    assert {row["category"] for row in written["rows"]} == {"disc", "square", "mean"}
    assert written["protocol"] == {"view": "full", "masks": None, "normalise": "calibrated"}


def test_evaluate_names_what_is_missing(fitted: Fitted, tmp_path: Path) -> None:
    broken = shutil.copytree(fitted.folder, tmp_path / "run")
    (broken / WEIGHTS).unlink()
    result = runner.invoke(main.app, ["evaluate", str(broken), "--data", str(fitted.data)])
    assert str(broken / WEIGHTS) in reason(result)


def test_evaluate_without_test_pictures_fails(fitted: Fitted) -> None:
    data = fitted.data / "disc" / "train" / "good"
    result = runner.invoke(main.app, ["evaluate", str(fitted.folder), "--data", str(data)])
    assert "no test pictures" in reason(result)


def test_evaluate_under_the_protocol_of_the_paper_says_so(fitted: Fitted) -> None:
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data / "disc")]
    result = runner.invoke(main.app, [*arguments, "--protocol", "paper", "--normalise", "test-minmax"])
    assert result.exit_code == 0, result.output
    caption = " ".join(result.stdout.split())
    assert "centre crop of 7/8" in caption
    assert "over the TEST SET, for reproducing papers only" in caption


def test_evaluate_shows_the_figures_of_the_paper_beside_ours(fitted: Fitted) -> None:
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data), "--beside", "mvtec ad"]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    mean = [line for line in result.stdout.splitlines() if line.startswith("│ mean")][-1]
    assert mean.split("│")[2].endswith(" / 99.5 ")
    result = runner.invoke(main.app, [*arguments[:-1], "my parts"])
    assert result.exit_code == 2
    assert "MVTec LOCO" in result.stderr


def test_evaluate_names_a_picture_without_component_masks(fitted: Fitted, tmp_path: Path) -> None:
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data), "--normalise", "test-minmax"]
    assert str(tmp_path / "disc" / "test") in reason(
        runner.invoke(main.app, [*arguments, "--masks", str(tmp_path)])
    )


def test_released_weights_become_a_run_that_calibrate_completes(
    fitted: Fitted, released: Path, tmp_path: Path
) -> None:
    run, settings = tmp_path / "run", tmp_path / "settings.json"
    settings.write_text(vit_run_config().model_dump_json())
    arguments = ["import-weights", str(released), "--output", str(run), "--config", str(settings)]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    assert "released detector" in result.stdout
    measured = runner.invoke(main.app, ["evaluate", str(run), "--data", str(fitted.data)])
    assert f"`anomoe-train calibrate {run}`" in reason(measured)
    result = runner.invoke(main.app, ["calibrate", str(run), "--data", str(fitted.data)])
    assert result.exit_code == 0, result.output
    assert "calibrated for disc, square" in " ".join(result.stdout.split())
    measured = runner.invoke(main.app, ["evaluate", str(run), "--data", str(fitted.data)])
    assert measured.exit_code == 0, measured.output


def test_calibrate_without_pictures_fails(fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = runner.invoke(main.app, ["calibrate", str(fitted.folder), "--data", str(tmp_path / "empty")])
    assert "no pictures found" in reason(result)
