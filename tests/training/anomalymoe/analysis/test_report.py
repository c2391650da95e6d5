"""The whole analysis: what is written, and that figures and JSON agree with what was found."""

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress, tiny_checkpoint
from training.anomalymoe.analysis.report import Analysis, analyse, summary_table
from training.anomalymoe.analysis.routing import routing_heat_maps
from training.anomalymoe.evaluation.macs import macs_on_average
from training.data.pictures import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("analysis") / "new" / "folder"


@pytest.fixture(scope="module")
def found(fitted: Fitted, folder: Path) -> Analysis:
    return analyse(tiny_checkpoint(), fitted.data, folder, quiet_progress())


def test_figures_and_json_are_written(found: Analysis, folder: Path) -> None:
    names = {"maps.png", "levels.png", "routing.png", "redundancy.png", "analysis.json"}
    assert {path.name for path in folder.iterdir()} == names
    with Image.open(folder / "maps.png") as overview, Image.open(folder / "levels.png") as by_level:
        assert overview.format == "PNG"
        assert overview.width == by_level.width
        assert overview.height < by_level.height
    with Image.open(folder / "routing.png") as routing:
        drawn = routing_heat_maps(found.routing)
        assert routing.height == sum(one.size[1] for one in drawn)
        left, top, _, _ = drawn[0].cell(1, 4)
        assert routing.getpixel((left + 3, top + 3)) == drawn[0].colour(found.routing.shares[1, 4])


def test_json_holds_what_was_found(found: Analysis, folder: Path) -> None:
    written = json.loads((folder / "analysis.json").read_text())
    assert written["routing"]["shares"]["all"]["global 0"] == 1.0
    assert written["routing"]["dead_experts"] == found.routing.dead
    assert written["routing"]["gate_entropy"]["all"] == found.routing.entropy[-1]
    learned = found.worth["learned"].metrics
    worth = written["image_and_pixel_auroc_by_routing"]
    assert worth["learned"] == [learned.image_auroc, learned.pixel_auroc]
    assert list(worth) == ["learned", "random", "fixed", "all"]
    assert written["redundancy"]["patch"]["cka"][0][1] == found.redundancy["patch"][0, 1]
    assert written["macs"]["encoder"] == found.macs.encoder
    used = macs_on_average(found.macs, found.routing.levels, found.routing.shares[2].tolist())
    assert written["macs"]["used"] == used == found.macs.least


def test_the_summary_names_dead_experts_and_means(found: Analysis) -> None:
    console = Console(width=120, file=None)
    with console.capture() as capture:
        console.print(summary_table(found))
    text = capture.get()
    assert f"{found.redundancy['patch'][0, 1]:.2f}" in text
    line = next(line for line in text.splitlines() if "no picture chose" in line)
    assert (", ".join(found.routing.dead) or "none") in line
    assert "-" in next(line for line in text.splitlines() if "global experts" in line)


def test_without_defects_there_is_nothing_to_show(fitted: Fitted, tmp_path: Path) -> None:
    good = tmp_path / "disc" / "test" / "good"
    good.parent.mkdir(parents=True)
    good.symlink_to(fitted.data / "disc" / "test" / "good")
    with pytest.raises(DataError, match="no test defects found"):
        analyse(tiny_checkpoint(), tmp_path, tmp_path / "out", quiet_progress())
    assert not (tmp_path / "out").exists()
