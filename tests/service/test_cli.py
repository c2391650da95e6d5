"""The command: tables, JSON lines, saved maps, exit codes."""

import json
import socket
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from service.cli import app
from service.metrics import Metrics
from service.models import load_models
from service.security import KeyRing, hash_of
from service.settings import Settings
from tests.tiny_bundle import make_tiny_bundle, plain_picture, spotted_picture
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle

runner = CliRunner()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a normal and an anomalous picture, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    plain_picture("brick").save(folder / "good.png")
    spotted_picture("brick").save(folder / "sub" / "bad.bmp")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_table_shows_each_picture_of_a_folder(service_url: str, pictures: Path) -> None:
    result = runner.invoke(app, ["detect", str(pictures), "--url", service_url])
    assert result.exit_code == 0, result.output
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if "brick" in line}
    assert " normal " in rows["pictures/good.png"]
    assert " anomalous " in rows["pictures/sub/bad.bmp"]


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


def test_saved_maps_stay_in_their_folder(
    service_url: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures / "sub")
    options = ["--url", service_url, "--save-maps", str(tmp_path / "maps")]
    assert runner.invoke(app, ["detect", "../good.png", *options]).exit_code == 0
    assert (tmp_path / "maps/good.png.map.png").is_file()


@pytest.mark.parametrize("url", ["http://localhost:abc", "no address"])
def test_an_address_that_is_none_gives_one_line(pictures: Path, url: str) -> None:
    result = runner.invoke(app, ["detect", str(pictures), "--url", url])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("anomoe: ")
    assert url in result.stderr.splitlines()[-1]


def test_maps_that_cannot_be_written_lose_no_verdict(service_url: str, pictures: Path) -> None:
    options = ["--url", service_url, "--save-maps", str(pictures / "notes.txt")]
    result = runner.invoke(app, ["detect", str(pictures), *options])
    assert result.exit_code == 1
    assert (" normal " in result.stdout, " anomalous " in result.stdout) == (True, True)
    assert "good.png: the map cannot be written: " in result.stderr.splitlines()[-1]


def test_failed_picture_leaves_the_others_and_gives_code_1(service_url: str, pictures: Path) -> None:
    paths = [str(pictures / "notes.txt"), str(pictures / "good.png")]
    result = runner.invoke(app, ["detect", *paths, "--url", service_url])
    assert result.exit_code == 1
    assert "normal" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("anomoe: notes.txt: Not a picture type (415)")


@pytest.mark.parametrize(
    "arguments", [["detect"], ["detect", "missing.png"], ["detect", ".", "--alpha", "2"], ["nonsense"]]
)
def test_wrong_usage_gives_code_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_wrong_setting_gives_code_2() -> None:
    result = runner.invoke(app, ["serve", "--port", "99999"])
    assert result.exit_code == 2
    assert "port (ANOMOE_PORT)" in result.stderr


def test_folder_without_pictures_gives_code_1(tmp_path: Path) -> None:
    result = runner.invoke(app, ["detect", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (1, f"anomoe: no pictures in {tmp_path}\n")


def test_bad_bundle_stops_the_start_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.app.configure_logging", lambda _: None)
    bundle = make_tiny_bundle(tmp_path / "tiny")
    with next(bundle.glob("graphs/*")).open("ab") as graph:
        graph.write(b"more")
    result = runner.invoke(app, ["serve", "--bundles", str(bundle)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "graphs" in result.stderr
    empty = runner.invoke(app, ["serve", "--bundles", str(tmp_path / "nowhere")])
    assert empty.exit_code == 1
    assert "nowhere" in empty.stderr


def test_taken_port_stops_the_start_with_one_line(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.configure_logging", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = runner.invoke(app, ["serve", "--bundles", str(bundle_folder), "--port", port])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert port in result.stderr


def test_help_lists_every_setting() -> None:
    text = runner.invoke(app, ["serve", "--help"]).stdout
    assert all(f"ANOMOE_{name.upper()}" in text for name in Settings.model_fields)


def test_key_is_printed_once_and_its_file_opens_the_service(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    first = runner.invoke(app, ["key", "cam", "--file", str(path)])
    second = runner.invoke(app, ["key", "boss", "--role", "admin", "--file", str(path)])
    assert (first.exit_code, second.exit_code) == (0, 0)
    ring = KeyRing(path)
    found = [ring.find(result.stdout.strip()) for result in (first, second)]
    assert [(entry.name, entry.role) for entry in found if entry] == [("cam", "infer"), ("boss", "admin")]
    assert first.stdout.strip() not in path.read_text()


def test_key_without_a_file_shows_its_line(tmp_path: Path) -> None:
    result = runner.invoke(app, ["key", "cam"])
    assert hash_of(result.stdout.strip()) in result.stderr
    assert runner.invoke(app, ["key", "cam", "--role", "root"]).exit_code == 2
    (tmp_path / "keys.txt").write_text("broken")
    broken = runner.invoke(app, ["key", "cam", "--file", str(tmp_path / "keys.txt")])
    assert broken.exit_code == 1
    assert "line 1" in broken.stderr


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
        assert model.lane.plan.source == "stored"


def test_tune_says_before_it_measures_that_it_cannot_store(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("service.tune_command.measure_bundle", pytest.fail)
    result = runner.invoke(app, ["tune", str(bundle_folder)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert str(tmp_path / "file") in result.stderr
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "state"))
    missing = runner.invoke(app, ["tune", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "nowhere" in missing.stderr) == (1, True)
    assert runner.invoke(app, ["tune", "--seconds", "-1"]).exit_code == 2
