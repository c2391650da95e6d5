"""The training command: what it writes, its exit codes, and reasons of one line."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.training.conftest import Fitted
from tests.training.data.test_pictures import save
from tests.training.tiny_run import tiny_config, vit_run_config
from training.anomalymoe.analysis import ablation
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit_config import FitConfig, preset
from training.cli import insight, main
from training.cli.options import read_settings, reading
from training.data.dataset import find_samples
from training.data.pictures import DataError
from training.reporting.macs import in_words
from training.runs.files import WEIGHTS, CheckpointError
from training.runs.foreign import WeightsError

runner = CliRunner()
ROOT = Path(__file__).parents[3]


def reason(result: Result) -> str:
    """The last line on the error stream of a command that failed with exit code 1."""
    assert result.exit_code == 1, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("anomoe-train: ")
    assert "Traceback" not in result.stderr
    return last


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The tiny settings as a file."""
    path = tmp_path / "settings.json"
    path.write_text(tiny_config().model_dump_json())
    return path


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


def test_settings_of_a_file_lie_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"train": {"steps": 7}, "detector": {"patch": {"count": 2}}}')
    changed, plain = read_settings("efficientnet-lite0", path), preset("efficientnet-lite0")
    assert (changed.train.steps, changed.detector.patch.count) == (7, 2)
    assert changed.train.learning_rate == plain.train.learning_rate
    assert changed.detector.component == plain.detector.component
    path.write_text('{"backbone": "offline", "pretext": {"steps": 3}}')
    assert read_settings("efficientnet-lite0", path).encoder == preset("offline").encoder
    path.write_text(tiny_config().model_dump_json(), encoding="utf-8-sig")
    assert read_settings("efficientnet-lite0", path) == tiny_config()
    path.write_text("{}", encoding="utf-16")
    with pytest.raises(CheckpointError, match=f"{path}: is no text in UTF-8"):
        read_settings("efficientnet-lite0", path)


@pytest.mark.parametrize(("name", "side"), [("rehearsal", 96), ("fine", 640)])
def test_settings_of_the_docs_are_settings(name: str, side: int) -> None:
    settings = read_settings("efficientnet-lite0", ROOT / "docs" / f"{name}.json")
    assert settings.input.height == settings.encoder.image_size[0] == side


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": {"step": 7}}', "train.step: Extra inputs are not permitted, got 7"),
        ('{"backbone": "resnet"}', "backbone: .*got 'resnet'"),
        ("[1]", "some.json"),
        ("{", "some.json"),
    ],
)
def test_wrong_settings_of_a_file_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_settings("efficientnet-lite0", tmp_path / "some.json")


def test_data_may_be_given_in_several_places(fitted: Fitted, tmp_path: Path) -> None:
    run = shutil.copytree(fitted.folder, tmp_path / "run")
    places = [argument for name in ("disc", "square") for argument in ("--data", str(fitted.data / name))]
    result = runner.invoke(main.app, ["evaluate", str(run), *places])
    assert result.exit_code == 0, result.output
    twice = runner.invoke(main.app, ["evaluate", str(run), "--data", str(fitted.data), *places])
    assert "category 'disc': in" in reason(twice)


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


def test_masks_belong_to_the_protocol_of_the_paper(fitted: Fitted) -> None:
    arguments = ["evaluate", str(fitted.folder), "--data", str(fitted.data), "--masks", "."]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 2
    assert "--masks" in result.output


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


def test_demo_data_draws_all_products(tmp_path: Path) -> None:
    counts = ["--train", "1", "--test-good", "1", "--test-defect", "0", "--size", "32"]
    result = runner.invoke(main.app, ["demo-data", str(tmp_path / "demo"), *counts])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "demo").glob("*/train/good/*.png"))) == 3
    assert len(list((tmp_path / "demo").glob("*/test/good/*.png"))) == 3


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


def test_calibrate_without_pictures_fails(fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = runner.invoke(main.app, ["calibrate", str(fitted.folder), "--data", str(tmp_path / "empty")])
    assert "no pictures found" in reason(result)


@pytest.mark.parametrize(
    "command", ["fit", "evaluate", "demo-data", "import-weights", "calibrate", "analyse", "macs", "ablate"]
)
def test_help_shows_an_example(command: str) -> None:
    result = runner.invoke(main.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"anomoe-train {command} " in result.stdout


def test_analyse_writes_a_folder_and_sums_up(fitted: Fitted, tmp_path: Path) -> None:
    output = tmp_path / "analysis"
    arguments = ["analyse", str(fitted.folder), "--data", str(fitted.data), "--output", str(output)]
    result = runner.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    for word in ("patch expert", "dense, all experts", "experts that no picture chose", f"{output}: written"):
        assert word in result.stdout
    assert (output / "levels.png").is_file()


def test_analyse_names_what_is_missing(fitted: Fitted, tmp_path: Path) -> None:
    data = str(fitted.data / "disc" / "train" / "good")
    arguments = ["analyse", str(fitted.folder), "--data", data, "--output", str(tmp_path / "analysis")]
    assert "no test pictures" in reason(runner.invoke(main.app, arguments))


def test_macs_prints_and_writes_the_counts(settings: Path, tmp_path: Path) -> None:
    output = tmp_path / "macs.json"
    result = runner.invoke(main.app, ["macs", "--config", str(settings), "--output", str(output)])
    assert result.exit_code == 0, result.output
    written = json.loads(output.read_text())
    assert written["experts"].keys() == {"patch", "component", "global"}
    assert in_words(written["dense"]) in result.stdout


def test_settings_that_no_model_has_are_named(settings: Path) -> None:
    settings.write_text(
        settings.read_text().replace('"heads":2,"mlp_ratio":4.0', '"heads":5,"mlp_ratio":4.0')
    )
    found = reason(runner.invoke(main.app, ["macs", "--config", str(settings)]))
    assert "settings: width must be a multiple of heads, got 36 and 5" in found


def test_macs_names_a_wrong_setting(settings: Path) -> None:
    settings.write_text(settings.read_text().replace('"batch_size":4', '"batch_size":-4'))
    assert "batch_size" in reason(runner.invoke(main.app, ["macs", "--config", str(settings)]))


def test_ablate_prints_the_table(
    fitted: Fitted, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_variant(data: Path, output: Path, config: FitConfig, *_: object) -> list[ablation.Result]:
        assert (data, output, config) == (fitted.data, tmp_path / "runs", tiny_config())
        found = ablation.Findings(
            key="k",
            datasets=[],
            image_auroc={"all": 0.75},
            pixel_auroc=None,
            least_share=0.5,
            dead_experts=[],
            redundancy={},
        )
        return [ablation.Result(ablation.Variant("levels", "patch", config), found)]

    monkeypatch.setattr(insight, "ablate_config", one_variant)
    arguments = ["--data", str(fitted.data), "--output", str(tmp_path / "runs"), "--config", str(settings)]
    result = runner.invoke(main.app, ["ablate", *arguments])
    assert result.exit_code == 0, result.output
    assert "75.0" in result.stdout


@pytest.mark.parametrize(
    ("error", "says"),
    [(DataError("some.file: bad"), "some.file: bad"), (KeyboardInterrupt(), "goes on from")],
)
def test_ablate_says_what_stopped_it(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(insight, "ablate_config", stop)
    arguments = ["ablate", "--data", str(fitted.data), "--output", str(tmp_path)]
    assert says in reason(runner.invoke(main.app, arguments))


def test_class_names_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('{"nut": "metal nut"}', encoding="utf-8-sig")
    save(tmp_path / "nut/train/good/1.png")
    with reading("good", None, path):
        assert [one.description for one in find_samples(tmp_path)] == ["metal nut"]
