"""The training command on MoECLIP: what it writes, prints and refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.training.moeclip.tiny import tiny_backbone, tiny_config, tiny_detector, tiny_tokenizer
from training.cli import main, moeclip
from training.moeclip.checkpoint import load_run, save_run
from training.moeclip.fit import Report, fit
from training.moeclip.fit_config import MoECLIPFitConfig, MoECLIPTrainConfig

runner = CliRunner()


def invoke(*arguments: object) -> Result:
    return runner.invoke(main.app, [str(one) for one in arguments])


def words(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def reason(result: Result) -> str:
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose CLIP to start from."""
    folder, config = tmp_path_factory.mktemp("moeclip") / "clip", tiny_config()
    model = tiny_detector()
    model.clip.load_state_dict(tiny_backbone().clip.state_dict())
    save_run(folder, config, model, tiny_tokenizer())
    return folder


@pytest.fixture(scope="module")
def run(clip: Path, pictures: Path) -> Path:
    """What `fit` makes of it."""
    folder = clip.parent / "run"
    settings = clip.parent / "settings.json"
    settings.write_text(tiny_config().model_dump_json())
    result = invoke(
        *("fit", "--method", "moeclip", "--data", pictures, "--clip", clip),
        *("--config", settings, "--output", folder),
    )
    assert words(result).endswith("12 steps on 4 good and 12 anomalous pictures of 2 classes")
    return folder


def test_fit_writes_a_run(run: Path) -> None:
    assert load_run(run, MoECLIPFitConfig).config == tiny_config()


def test_fit_takes_the_model_of_its_clip_by_default(
    clip: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[MoECLIPFitConfig] = []

    def spied(data: Path, output: Path, config: MoECLIPFitConfig, *others: Any) -> Report:
        configs.append(config)
        return fit(data, output, tiny_config(steps=1), *others)

    monkeypatch.setattr(moeclip, "fit", spied)
    words(invoke("fit", "--method", "moeclip", "--data", pictures, "--clip", clip, "--output", tmp_path))
    assert configs[0].model == tiny_config().model
    assert configs[0].train == MoECLIPTrainConfig()


def test_fit_needs_a_clip(pictures: Path) -> None:
    assert "--clip: method moeclip needs a CLIP" in reason(
        invoke("fit", "--method", "moeclip", "--data", pictures)
    )


def test_fit_needs_marked_defects(clip: Path, pictures: Path) -> None:
    good = pictures / "disc" / "train" / "good"
    result = invoke("fit", "--method", "moeclip", "--data", good, "--clip", clip)
    assert "no anomalous pictures with masks found" in reason(result)


def test_fit_says_how_to_go_on(
    clip: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "fit_moeclip", stop)
    result = invoke("fit", "--method", "moeclip", "--data", pictures, "--clip", clip, "--output", tmp_path)
    assert "the same command goes on" in reason(result)


def test_evaluate_shows_classes_and_writes_json(run: Path, pictures: Path, tmp_path: Path) -> None:
    result = invoke("evaluate", run, "--data", pictures, "--output", tmp_path / "figures.json")
    assert all(name in words(result) for name in ("disc", "square", "mean", "aupro"))
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["category"] for row in rows] == ["disc", "square", "mean"]


def test_evaluate_shows_the_paper_beside_ours(run: Path, pictures: Path, tmp_path: Path) -> None:
    """Told the data set, or where the folder has its name."""
    named = shutil.copytree(pictures, tmp_path / "headct")
    for options in (("--data", pictures, "--beside", "Head CT"), ("--data", named)):
        assert "/ 96.6" in words(invoke("evaluate", run, *options, "--domain", "medical"))


def test_evaluate_requires(run: Path, pictures: Path) -> None:
    assert "all: image_auroc is" in reason(
        invoke("evaluate", run, "--data", pictures, "--require", "all:image_auroc=1.01")
    )


@pytest.mark.parametrize(
    "options", [("--masks", "."), ("--normalise", "test-minmax"), ("--beside", "MVTec LOCO")]
)
def test_evaluate_refuses_what_belongs_to_the_other_method(
    run: Path, pictures: Path, options: tuple[str, str]
) -> None:
    assert "Invalid value" in reason(invoke("evaluate", run, "--data", pictures, *options))


def test_calibrate_adds_class_names(run: Path, pictures: Path) -> None:
    assert words(invoke("calibrate", run, "--data", pictures)).endswith("calibrated for disc, square")
    assert list(load_run(run).class_scores) == ["disc", "square"]


def test_analyse_writes_figures(run: Path, pictures: Path, tmp_path: Path) -> None:
    assert "mean similarity" in words(invoke("analyse", run, "--data", pictures, "--output", tmp_path))
    assert (tmp_path / "expert_use.png").exists()
