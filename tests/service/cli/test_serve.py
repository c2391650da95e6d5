"""`anomoe serve`: settings, and reasons of one line why it does not start."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import Result

from service.cli.commands import app
from service.settings import Settings
from tests.service.cli.invoking import runner
from tests.tiny_bundle import make_tiny_bundle


def test_wrong_setting_gives_code_2() -> None:
    result = runner.invoke(app, ["serve", "--port", "99999"])
    assert result.exit_code == 2
    assert "port (ANOMOE_PORT)" in result.stderr


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
