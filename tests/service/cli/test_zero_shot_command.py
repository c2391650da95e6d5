"""The command against a service that listens on a real port: table, JSON lines, saved maps, wrong usage."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from anomoe_client import Client, ClientError
from service.cli.commands import app
from tests.service.conftest import encoded, listening, picture

runner = CliRunner()


@pytest.fixture(scope="module")
def url(zero_shot_folder: Path) -> Iterator[str]:
    with listening(zero_shot_folder) as address:
        yield address


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture("brick").save(folder / "good.png")
    picture("slate", spotted=True).save(folder / "spotted.png")
    return folder


def test_client_asks_for_several_names(url: str) -> None:
    with Client(url) as client:
        answer = client.zero_shot(encoded(picture("slate")), class_names=["brick", "slate"])
        assert (answer.best, len(answer.classes)) == ("slate", 2)
        with pytest.raises(ClientError, match=r"A parameter is wrong \(422\): class_names\[1\]: "):
            client.zero_shot(encoded(picture("slate")), class_names=["brick", " "])


def test_table_shows_the_best_name_of_each_picture(url: str, pictures: Path) -> None:
    names = ["--class-name", "brick", "--class-name", "slate"]
    result = runner.invoke(app, ["zero-shot", str(pictures), *names, "--url", url])
    assert result.exit_code == 0, result.output
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if "pictures/" in line}
    assert " brick " in rows["pictures/good.png"]
    assert " normal " in rows["pictures/good.png"]
    assert " slate " in rows["pictures/spotted.png"]
    assert " anomalous " in rows["pictures/spotted.png"]


def test_json_lines_and_saved_maps(url: str, pictures: Path, tmp_path: Path) -> None:
    options = ["--json", "--save-maps", str(tmp_path / "maps"), "--threshold", "0.3", "--domain", "medical"]
    result = runner.invoke(
        app, ["zero-shot", str(pictures), "--class-name", "red brick", "--url", url, *options]
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["picture"] for line in lines] == ["pictures/good.png", "pictures/spotted.png"]
    assert all(line["calibrated"] and line["best"] == "red brick" for line in lines)
    assert [set(line["classes"][0]) for line in lines] == [
        {"class_name", "score", "threshold", "is_anomalous"}
    ] * 2
    with Image.open(tmp_path / "maps/pictures/good.png.map.png") as saved:
        assert saved.size == (80, 60)


def test_picture_without_an_answer_gives_code_1(url: str, pictures: Path) -> None:
    result = runner.invoke(app, ["zero-shot", str(pictures), "--class-name", "x" * 101, "--url", url])
    assert result.exit_code == 1
    assert "class_names[0]: longer than 100 characters" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "options", [[], ["--class-name", "a", "--threshold", "2"], ["--class-name", "a", "--domain", "kitchen"]]
)
def test_wrong_usage_gives_code_2(pictures: Path, options: list[str]) -> None:
    assert runner.invoke(app, ["zero-shot", str(pictures), *options]).exit_code == 2
