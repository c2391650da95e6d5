"""`anomoe detect`: tables, JSON lines, CSV, what is asked and what is not, exit codes."""

import csv
import errno
import json
import os
from pathlib import Path

import pytest

from service.cli.commands import app
from tests.service.cli.invoking import ask, last_line, runner
from tests.tiny_bundle import plain_picture


def test_table_shows_each_picture_of_a_folder(service_url: str, pictures: Path) -> None:
    result = runner.invoke(app, ["detect", str(pictures), "--url", service_url])
    assert result.exit_code == 0, result.output
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if "brick" in line}
    assert " normal " in rows["pictures/good.png"]
    assert " anomalous " in rows["pictures/sub/bad.bmp"]


def test_a_bundle_judges_as_the_service_does(
    service_url: str,
    bundle_folder: Path,
    pictures: Path,
    restored_logging: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANOMOE_API_KEYS_FILE", "none.txt")
    answers = []
    for who in (["--bundle", str(bundle_folder)], ["--url", service_url]):
        result = runner.invoke(app, ["detect", str(pictures), "--json", *who])
        assert result.exit_code == 0, result.output
        answers.append([json.loads(line) for line in result.stdout.splitlines()])
    for own, served in zip(*answers, strict=True):
        for field in ("picture", "model", "category", "is_anomalous", "reason"):
            assert own[field] == served[field]
        assert own["raw_score"] == pytest.approx(served["raw_score"], rel=1e-3)
    assert [line["is_anomalous"] for line in answers[0]] == [False, True]


def test_a_bundle_is_no_service_and_must_be_one(
    bundle_folder: Path, pictures: Path, tmp_path: Path, restored_logging: None
) -> None:
    both = runner.invoke(app, ["detect", str(pictures), "--bundle", str(bundle_folder), "--url", "http://x"])
    assert (both.exit_code, "one of them is expected" in both.stderr) == (2, True)
    assert str(tmp_path / "none") in last_line(ask(pictures, "--bundle", tmp_path / "none"))


def test_csv_has_a_line_a_picture_and_its_error(service_url: str, pictures: Path) -> None:
    result = ask(pictures / "notes.txt", pictures, "--url", service_url, "--csv")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [(row["picture"], row["category"], row["verdict"]) for row in rows] == [
        ("pictures/notes.txt", "", ""),
        ("pictures/good.png", "brick", "normal"),
        ("pictures/sub/bad.bmp", "brick", "anomalous"),
    ]
    assert rows[0]["error"].startswith("Not a picture type (415)")
    assert 0 <= float(rows[1]["score"]) < 0.5 < float(rows[2]["score"])
    assert ask(pictures, "--csv", "--json").exit_code == 2


def test_a_picture_that_is_given_twice_is_asked_once(service_url: str, pictures: Path) -> None:
    good = pictures / "good.png"
    result = ask(good, pictures, pictures / "sub" / ".." / "good.png", "--url", service_url, "--json")
    names = [json.loads(line)["picture"] for line in result.stdout.splitlines()]
    assert names == ["pictures/good.png", "pictures/sub/bad.bmp"]


def test_names_that_do_not_fit_are_folded_and_not_cut_off(service_url: str, tmp_path: Path) -> None:
    paths = [tmp_path / ("long-" * 30) / f"{number}.png" for number in (1, 2)]
    paths[0].parent.mkdir()
    for path in paths:
        plain_picture("brick").save(path)
    result = ask(paths[0].parent, "--url", service_url)
    cells = "".join(line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line)
    assert all(f"{'long-' * 30}/{path.name}" in cells for path in paths)


def test_picture_of_the_standard_input(service_url: str, pictures: Path, tmp_path: Path) -> None:
    options = ("--url", service_url, "--json", "--save-maps", tmp_path / "maps")
    result = ask("-", *options, stdin=(pictures / "sub" / "bad.bmp").read_bytes())
    assert result.exit_code == 0, result.output
    assert (json.loads(result.stdout)["picture"], json.loads(result.stdout)["is_anomalous"]) == ("-", True)
    assert (tmp_path / "maps" / "-.map.png").is_file()
    assert "The request is malformed (400)" in last_line(ask("-", *options, stdin=b""))


def test_what_is_not_asked_is_named(service_url: str, pictures: Path) -> None:
    (pictures / "linked").symlink_to(pictures / "sub")
    (pictures / ".hidden.png").write_text("no picture")
    (pictures / "@eaDir").mkdir()
    (pictures / "@eaDir" / "thumbnail.png").write_text("no picture")
    (pictures / "sub" / "a.heic").write_text("a picture")
    (pictures / "lost.png").symlink_to(pictures / "nowhere.png")
    os.mkfifo(pictures / "sub" / "pipe.png")
    result = ask(pictures, "--url", service_url)
    passed_over = f"anomoe: passed over, no pictures by name or kind: {pictures}/linked (and 3 more)"
    assert result.stderr.splitlines()[0] == passed_over
    assert last_line(result) == "anomoe: pictures/lost.png: cannot be read: No such file or directory"


def test_folder_that_cannot_be_listed_fails_and_the_others_are_asked(
    service_url: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = ask(pictures, "--url", service_url)
    assert " normal " in result.stdout
    assert last_line(result).startswith("anomoe: pictures/sub: cannot be read: ")


def test_picture_that_cannot_be_read_leaves_the_others(
    service_url: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = pictures / "sub" / "bad.bmp"
    access, read = os.access, Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == bad:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(os, "access", lambda path, *mode: str(path) != str(bad) and access(path, *mode))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = ask(bad, pictures / "good.png", "--url", service_url)
    assert " normal " in result.stdout
    assert last_line(result) == "anomoe: sub/bad.bmp: cannot be read: Permission denied"


def test_name_that_is_no_text_is_shown(service_url: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"f\xfcr.png")
    plain_picture("brick").save(path)
    result = ask(path, "--url", service_url)
    assert result.exit_code == 0, result.output
    assert "f\ufffdr.png" in result.stdout


@pytest.mark.parametrize("url", ["http://localhost:abc", "no address"])
def test_an_address_that_is_none_gives_one_line(pictures: Path, url: str) -> None:
    result = runner.invoke(app, ["detect", str(pictures), "--url", url])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("anomoe: ")
    assert url in result.stderr.splitlines()[-1]


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


def test_folder_without_pictures_gives_code_1(tmp_path: Path) -> None:
    result = runner.invoke(app, ["detect", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (1, f"anomoe: no pictures in {tmp_path}\n")
