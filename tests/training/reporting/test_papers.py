"""Table 1 of both papers over miniatures of all their data sets, by one command each."""

import json
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training import tiny_run
from tests.training.conftest import Fitted
from tests.training.data.miniatures import MINIATURES, mvtec
from tests.training.moeclip.tiny import tiny_config, tiny_detector, tiny_tokenizer
from training.anomalymoe.analysis.ablation import SUMMARY
from training.anomalymoe.fit import BACKBONE
from training.anomalymoe.fit_config import TrainConfig
from training.cli.main import app
from training.data.dataset import find_samples
from training.moeclip.checkpoint import save_run
from training.reporting.reference import Method, find_dataset, reference_figures


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[Method, Path]:
    """By method a folder with every data set of its paper in it, as whoever downloads them has."""
    found: dict[Method, Path] = {}
    for method in get_args(Method):
        root = found[method] = tmp_path_factory.mktemp(method)
        for name, make, *_ in MINIATURES:
            if find_dataset(method, name):
                # The paper measured RSDD on crops with and without defects.
                (partial(mvtec, root / "RSDD/rail") if name == "RSDD" else partial(make, root / name))()
        repaint(root)
    return found


def repaint(root: Path) -> None:
    """Make every picture another one, as nothing can be learnt from pictures that are all the same."""
    rng = np.random.default_rng(0)
    for sample in find_samples(root):
        with Image.open(sample.path) as picture:
            noise = rng.integers(0, 256, (picture.height, picture.width, 3), np.uint8)
        Image.fromarray(noise).convert("L" if picture.mode == "L" else "RGB").save(sample.path)


@pytest.fixture
def run(request: pytest.FixtureRequest, fitted: Fitted, tmp_path: Path) -> Path:
    if request.param == "anomalymoe":
        return fitted.folder
    save_run(tmp_path / "run", tiny_config(), tiny_detector(), tiny_tokenizer())
    return tmp_path / "run"


def evaluated(run: Path, data: Path, output: Path) -> str:
    command = ["evaluate", str(run), "--data", str(data), "--protocol", "paper", "--output", str(output)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("run", "method", "sets", "methods"),
    [("anomalymoe", "anomalymoe", 8, 7), ("moeclip", "moeclip", 14, 7)],
    indirect=["run"],
)
def test_table_1_is_one_command(
    run: Path, roots: dict[Method, Path], tmp_path: Path, method: Method, sets: int, methods: int
) -> None:
    output = tmp_path / "figures.json"
    printed = evaluated(run, roots[method], output)
    published = {(one.dataset, one.variant): one for one in reference_figures(method, 1)}
    table = {(one["dataset"], one["variant"]): one for one in json.loads(output.read_text())["table_1"]}
    assert len({dataset for dataset, _ in table}) == sets + 1
    assert len({variant for _, variant in table}) == methods + 1
    for place, figure in published.items():
        if place[0] != "Average":
            assert table[place]["pixel_auroc"] == figure.pixel_auroc
            assert place[0] in printed
    for dataset in {dataset for dataset, _ in table}:
        ours, theirs = table[dataset, "ours"], table[dataset, "MoECLIP" if sets == 14 else "AnomalyMoE"]
        has = [name for name in ("image_auroc", "pixel_auroc") if theirs[name] is not None]
        assert [name for name in has if ours[name] is None] == []
    assert all(0 <= one["image_auroc"] <= 100 for one in table.values() if one["image_auroc"] is not None)


def ablated(output: Path, *options: object) -> str:
    result = CliRunner().invoke(app, ["ablate", "--output", str(output), *map(str, options)])
    assert result.exit_code == 0, result.output
    return result.output


def test_tables_2_and_3_of_anomalymoe_are_one_command(
    fitted: Fitted, roots: dict[Method, Path], tmp_path: Path
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(tiny_run.tiny_config(train=TrainConfig(steps=1, batch_size=4)).model_dump_json())
    backbone = ["--backbone", "offline", "--weights", fitted.folder / BACKBONE, "--config", settings]
    some = [part for name in ("MVTec-AD", "VisA") for part in ("--data", roots["anomalymoe"] / name)]
    ablated(tmp_path, *some, *backbone)
    rows = json.loads((tmp_path / SUMMARY).read_text())
    assert [row["table"] for row in rows] == ["levels"] * 7 + ["balancing"] * 4
    for row in rows:
        assert [one["dataset"] for one in row["datasets"]][-1] == "average"
        assert len(row["datasets"]) == 3


def test_table_2_of_moeclip_is_one_command(roots: dict[Method, Path], tmp_path: Path) -> None:
    save_run(tmp_path / "clip", tiny_config(), tiny_detector(), tiny_tokenizer())
    settings = tmp_path / "settings.json"
    settings.write_text(tiny_config(steps=1).model_dump_json())
    root, clip = roots["moeclip"], ["--clip", tmp_path / "clip", "--config", settings]
    ablated(tmp_path, "--method", "moeclip", "--data", root / "VisA", "--test", root, *clip)
    rows = json.loads((tmp_path / "table-2.json").read_text())
    beside = {(row["variant"], row["dataset"]) for row in rows if row["paper"]}
    published = reference_figures("moeclip", 2)
    assert beside == {(one.variant, one.dataset.replace("Average", "average")) for one in published}
    assert all(row["ours"]["pixel_auroc"] is not None for row in rows if row["dataset"] != "Head CT")


def test_markdown_holds_table_1(fitted: Fitted, roots: dict[Method, Path], tmp_path: Path) -> None:
    output = tmp_path / "table-1.md"
    evaluated(fitted.folder, roots["anomalymoe"] / "VisA", output)
    lines = output.read_text().splitlines()
    assert "| data set | method | image_auroc | image_ap | pixel_auroc | pixel_ap |" in lines
    assert "| VisA | AnomalyMoE | 98.1 |  | 99.0 |  |" in lines
