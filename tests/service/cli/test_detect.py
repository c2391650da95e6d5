"""The command: tables, JSON lines, saved maps, exit codes."""

import csv
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from service.api_keys import KeyRing, add_key, hash_of, make_key
from service.cli.commands import app
from service.metrics import Metrics
from service.models.loading import load_models
from service.settings import Settings
from tests.service.conftest import listening
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


def ask(*arguments: object, stdin: bytes | None = None) -> Result:
    return runner.invoke(app, ["detect", *map(str, arguments)], input=stdin)


def last_line(result: Result) -> str:
    """Why the command ended with code 1."""
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    return result.stderr.splitlines()[-1]


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


@pytest.fixture(scope="module")
def locked(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a service that asks for a key, and the key."""
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    secret, entry = make_key("line", "infer")
    add_key(path, entry)
    with listening(bundle_folder, api_keys_file=path) as url:
        yield url, secret


def test_key_comes_from_an_option_a_file_or_the_environment(
    locked: tuple[str, str], pictures: Path, tmp_path: Path
) -> None:
    url, secret = locked
    file, wrong = tmp_path / "key.txt", tmp_path / "wrong.txt"
    file.write_bytes(f"\ufeff{secret}\r\n".encode())
    wrong.write_text("wrong")
    asked = ["detect", str(pictures), "--url", url]

    def code(*options: object, **variables: object) -> int:
        environment = {
            "ANOMOE_KEY": None,
            "ANOMOE_KEY_FILE": None,
            **{k: str(v) for k, v in variables.items()},
        }
        return runner.invoke(app, [*asked, *map(str, options)], env=environment).exit_code

    assert code() == 1
    assert code("--key", secret) == code("--key-file", file) == 0
    assert (
        code(ANOMOE_KEY=secret)
        == code(ANOMOE_KEY_FILE=file)
        == code(ANOMOE_KEY=secret, ANOMOE_KEY_FILE="")
        == 0
    )
    assert code("--key", secret, ANOMOE_KEY="wrong") == code("--key-file", file, ANOMOE_KEY="wrong") == 0
    assert code("--key", secret, ANOMOE_KEY_FILE=wrong) == 0
    assert code("--key", "wrong", ANOMOE_KEY=secret) == 1
    assert code("--key", secret, "--key-file", file) == code(ANOMOE_KEY=secret, ANOMOE_KEY_FILE=file) == 2


def test_missing_and_wrong_keys_are_told(locked: tuple[str, str], pictures: Path, tmp_path: Path) -> None:
    url, _ = locked
    given = [pictures / "good.png", "--url", url]
    assert "No key, or a wrong one (401): a key is expected" in last_line(ask(*given))
    assert "not one of this service" in last_line(ask(*given, "--key", "other"))
    assert "the key is empty" in last_line(ask(*given, "--key", ""))
    missing = last_line(ask(*given, "--key-file", tmp_path / "none.txt"))
    assert missing.startswith("anomoe: the key cannot be read: ")
    assert str(tmp_path / "none.txt") in missing


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
    monkeypatch.setattr("service.run.configure_logging", lambda _: None)
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


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[Result, list[str]]:
    """`anomoe serve` in a folder without a bundle, and what it warns of before it ends."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("service.run.configure_logging", lambda _: None)
    with capture_logs() as logs:
        result = runner.invoke(app, ["serve", *options])
    return result, [log["event"] for log in logs if log["log_level"] == "warning"]


def test_a_start_tells_of_misspelt_settings_and_of_missing_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("ANOMOE_API_KEY_FILE=keys.txt\n")
    monkeypatch.setenv("ANOMOE_API_KEY_FILE", "keys.txt")
    result, warnings = start(tmp_path, monkeypatch)
    assert result.exit_code == 1
    meant = "is no setting, ANOMOE_API_KEYS_FILE may be meant"
    assert warnings == [
        f"ANOMOE_API_KEY_FILE (environment) {meant}",
        f"ANOMOE_API_KEY_FILE (.env, line 1) {meant}",
        "no API keys: whoever reaches this address may ask",
    ]


def test_a_start_with_keys_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.invoke(app, ["key", "cam", "--file", str(tmp_path / "keys.txt")])
    (tmp_path / ".env").write_text("export anomoe_api_keys_file='keys.txt'\nANOMOE_REQUIRE_KEYS=true\n")
    result, warnings = start(tmp_path, monkeypatch)
    assert (result.exit_code, "bundles" in result.stderr, warnings) == (1, True, [])


@pytest.mark.parametrize(
    ("keys", "words"),
    [(None, "api_keys_file is not set"), ("", "holds no key"), ("cam infer sha256:12", "line 1")],
)
def test_a_start_without_the_keys_that_it_needs_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str | None, words: str
) -> None:
    """Before any bundle is read."""
    monkeypatch.setenv("ANOMOE_REQUIRE_KEYS", "true")
    if keys is not None:
        (tmp_path / "keys.txt").write_text(keys)
        monkeypatch.setenv("ANOMOE_API_KEYS_FILE", "keys.txt")
    result, _ = start(tmp_path, monkeypatch)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


@pytest.mark.parametrize("value", [b"\xff", b"1\0"])
def test_a_settings_file_that_cannot_be_read_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    (tmp_path / ".env").write_bytes(b"ANOMOE_PORT=" + value + b"\n")
    result, _ = start(tmp_path, monkeypatch)
    assert result.exit_code == 1
    assert result.stderr.startswith("anomoe: .env cannot be read: ")
    assert len(result.stderr.splitlines()) == 1


def test_folders_of_bundles_may_have_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders without a bundle: the second is asked for once the first has one."""
    (tmp_path / "a,b").mkdir()
    for options in (["--bundles", "a,b"], ["--bundles", "a,b", "--bundles", "c,d"]):
        result, _ = start(tmp_path, monkeypatch, *options)
        assert "in 'a,b' or in a folder" in result.stderr
    (tmp_path / "a,b" / "manifest.json").touch()
    result, _ = start(tmp_path, monkeypatch, "--bundles", "a,b", "--bundles", "c,d")
    assert "in 'c,d' or in a folder" in result.stderr
    monkeypatch.setattr("service.cli.tune.configure_logging", lambda _: None)
    assert "in 'c,d' or in a folder" in runner.invoke(app, ["tune", "a,b", "c,d"]).stderr


def test_taken_port_stops_the_start_with_one_line(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.run.configure_logging", lambda _: None)
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
        assert model.pipeline.plan.source == "stored"


def test_tune_says_before_it_measures_that_it_cannot_store(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("service.cli.tune.measure_bundle", pytest.fail)
    result = runner.invoke(app, ["tune", str(bundle_folder)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert str(tmp_path / "file") in result.stderr
    monkeypatch.setenv("ANOMOE_STATE_DIR", str(tmp_path / "state"))
    missing = runner.invoke(app, ["tune", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "nowhere" in missing.stderr) == (1, True)
    assert runner.invoke(app, ["tune", "--seconds", "-1"]).exit_code == 2
