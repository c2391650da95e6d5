"""Maps that `anomoe detect` saves: where, in which form, and what is not overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.cli.commands import app
from tests.service.cli.invoking import ask, last_line, runner
from tests.tiny_bundle import plain_picture, spotted_picture


def test_json_lines_and_saved_maps(service_url: str, pictures: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    options = ["--json", "--save-maps", str(maps), "--category", "brick", "--alpha", "0.1"]
    result = runner.invoke(app, ["detect", str(pictures), "--url", service_url, *options])
    assert result.exit_code == 0, result.output
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert (good["picture"], good["is_anomalous"], good["alpha"]) == ("pictures/good.png", False, 0.1)
    assert (bad["picture"], bad["is_anomalous"]) == ("pictures/sub/bad.bmp", True)
    with Image.open(maps / "pictures/sub/bad.bmp.map.png") as saved:
        assert saved.size == (56, 42)


def test_maps_are_saved_in_the_form_that_is_asked_for(
    service_url: str, pictures: Path, tmp_path: Path
) -> None:
    bad = pictures / "sub" / "bad.bmp"
    for form, name, mode in (("overlay", "bad.bmp.map.png", "RGB"), ("npy", "bad.bmp.map.npy", None)):
        result = ask(bad, "--url", service_url, "--save-maps", tmp_path / form, "--map", form)
        assert result.exit_code == 0, result.output
        saved = tmp_path / form / name
        if mode:
            with Image.open(saved) as image:
                assert (image.mode, image.size) == (mode, (56, 42))
        else:
            assert np.load(saved).shape == (42, 56)
    assert ask(bad, "--save-maps", tmp_path, "--map", "heat").exit_code == 2


@pytest.fixture
def equal_names(tmp_path: Path) -> list[Path]:
    """Two pictures of one name in two folders: a normal and an anomalous one."""
    paths = [tmp_path / "x" / "1.png", tmp_path / "y" / "1.png"]
    for path, image in zip(paths, (plain_picture("brick"), spotted_picture("brick")), strict=True):
        path.parent.mkdir()
        image.save(path)
    return paths


@pytest.mark.parametrize("as_folders", [False, True])
def test_pictures_of_equal_name_have_rows_and_maps_of_their_own(
    service_url: str, equal_names: list[Path], tmp_path: Path, as_folders: bool
) -> None:
    given = [path.parent for path in equal_names] if as_folders else equal_names
    result = ask(*given, "--url", service_url, "--json", "--save-maps", tmp_path / "maps")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["picture"], one["is_anomalous"]) for one in lines] == [("x/1.png", False), ("y/1.png", True)]
    first, second = (tmp_path / "maps" / f"{one['picture']}.map.png" for one in lines)
    assert first.read_bytes() != second.read_bytes()


def test_maps_that_are_there_are_not_overwritten(
    service_url: str, equal_names: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "maps" / "x" / "1.png.map.png"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    result = ask(*equal_names, "--url", service_url, "--save-maps", tmp_path / "maps")
    assert last_line(result).startswith("anomoe: x/1.png: the map cannot be written: ")
    assert f"File exists: '{kept}'" in last_line(result)
    assert (" normal " in result.stdout, " anomalous " in result.stdout) == (True, True)
    assert kept.read_text() == "mine"
    assert (tmp_path / "maps" / "y" / "1.png.map.png").is_file()


def test_saved_maps_stay_in_their_folder(
    service_url: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures / "sub")
    options = ["--url", service_url, "--save-maps", str(tmp_path / "maps")]
    assert runner.invoke(app, ["detect", "../good.png", *options]).exit_code == 0
    assert (tmp_path / "maps/good.png.map.png").is_file()


def test_maps_that_cannot_be_written_lose_no_verdict(service_url: str, pictures: Path) -> None:
    options = ["--url", service_url, "--save-maps", str(pictures / "notes.txt")]
    result = runner.invoke(app, ["detect", str(pictures), *options])
    assert result.exit_code == 1
    assert (" normal " in result.stdout, " anomalous " in result.stdout) == (True, True)
    assert "good.png: the map cannot be written: " in result.stderr.splitlines()[-1]
