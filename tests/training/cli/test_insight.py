"""`anomoe-train analyse`, `macs` and `ablate`: what they print and write."""

import json
from pathlib import Path

import pytest

from tests.training.cli.invoking import reason, runner
from tests.training.conftest import Fitted
from tests.training.tiny_run import tiny_config
from training.anomalymoe.analysis import ablation
from training.anomalymoe.fit_config import FitConfig
from training.cli import insight, main
from training.data.pictures import DataError
from training.reporting.macs import in_words


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
