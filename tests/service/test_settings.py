"""Settings come from the environment; bundle folders are found where they name them."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError

from service.settings import Settings, describe_settings, ineffective_settings


def made(tmp_path: Path, *names: str) -> list[Path]:
    """Folders with a manifest."""
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
    return [tmp_path / name for name in names]


def folders_of(bundles: object) -> list[Path]:
    return Settings.model_validate({"bundles": str(bundles)}).bundle_folders()


def test_environment_sets_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMOE_PORT", "9001")
    monkeypatch.setenv("ANOMOE_MAX_BATCH", "3")
    settings = Settings.model_validate({"port": 9002})
    assert (settings.port, settings.max_batch) == (9002, 3)


def test_dotenv_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ANOMOE_QUEUE_SIZE=5\nUNRELATED=1\n")
    monkeypatch.chdir(tmp_path)
    assert Settings().queue_size == 5


def test_wrong_value_names_the_field() -> None:
    with pytest.raises(ValidationError, match="max_pixels"):
        Settings.model_validate({"max_pixels": 0})


def test_an_entry_is_a_bundle_or_a_folder_of_bundles(tmp_path: Path) -> None:
    made(tmp_path, "many/b", "many/a", "one")
    folders = folders_of(f"{tmp_path / 'one'}, {tmp_path / 'many'},")
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == ["one", "many/a", "many/b"]


def test_a_folder_named_twice_is_one_and_a_hidden_one_none(tmp_path: Path) -> None:
    a, _ = made(tmp_path, "a", ".a-being-written")
    (tmp_path / "link").symlink_to(a)
    assert [folder.resolve() for folder in folders_of(f"{tmp_path},{a}/,{a}/../a")] == [a]


@pytest.mark.parametrize("name", ["line,1", "line 1, left", "[1]", "~left", "a,b/c,d", "ü,ß"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, other = made(tmp_path, name, "other")
    assert folders_of(folder) == folders_of(f"{folder}/") == [folder]
    assert folders_of(name) == [Path(name)]
    assert folders_of(f" {json.dumps([name, str(other)])}") == [Path(name), other]


def test_a_home_is_found_and_a_long_list_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (folder,) = made(tmp_path, "a")
    assert folders_of("~/a") == folders_of('["~/a"]') == folders_of(",".join(["~/a"] * 2000)) == [folder]


@pytest.mark.parametrize("text", ["", " , ", "[]", '["a", 3]', '[""]', "[1"])
def test_what_names_no_folder_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"bundles\n.*folder"):
        Settings.model_validate({"bundles": text})


def test_half_a_bundle_beside_a_whole_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "manifest.json").touch()
    (tmp_path / "half" / "graphs").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="half"):
        Settings.model_validate({"bundles": str(tmp_path)}).bundle_folders()


@pytest.mark.parametrize(("name", "is_refused"), [("closed", True), ("lost+found", False), (".part", False)])
def test_a_bundle_that_may_not_be_read_is_not_passed_over(name: str, is_refused: bool) -> None:
    with unprivileged(), TemporaryDirectory() as folder:  # tmp_path is for the user who began
        whole, closed = made(Path(folder), "whole", name)
        closed.chmod(0)
        try:
            with pytest.raises(PermissionError, match=name) if is_refused else nullcontext():
                assert folders_of(folder) == [whole]
        finally:
            closed.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user who may not read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(54321)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["api_keys_file", "feedback_dir"])
def test_a_path_from_home_is_one_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(Settings.model_validate({name: "~/here"}), name) == tmp_path / "here"
    with pytest.raises(ValidationError, match="there is no such home"):
        Settings.model_validate({name: "~nobody-of-this-name/here"})


NAMES_NO_SETTING = "ANOMOE_API_KEY_FILE ({}) is no setting, ANOMOE_API_KEYS_FILE may be meant"


def test_variables_that_are_no_settings_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ANOMOE_API_KEY_FILE", "anomoe_port", "ANOMOE_SOMETHING_ELSE", "PORT"):
        monkeypatch.setenv(name, "1")
    assert ineffective_settings() == [
        NAMES_NO_SETTING.format("environment"),
        "ANOMOE_SOMETHING_ELSE (environment) is no setting",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "ANOMOE_API_KEY_FILE=keys.txt",
        "export ANOMOE_API_KEY_FILE=keys.txt",
        "  ANOMOE_API_KEY_FILE = 'keys.txt' # of cameras",
        'ANOMOE_API_KEY_FILE="keys.txt"\r',
        "ANOMOE_API_KEY_FILE",
        "ANOMOE_API_KEY_FILE=",
        "\ufeffANOMOE_API_KEY_FILE=keys.txt",
    ],
)
def test_lines_of_the_file_that_are_no_settings_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"{line}\nANOMOE_PORT=1\nUNRELATED=2\nPORT=3\n", encoding="utf-8")
    assert ineffective_settings() == [NAMES_NO_SETTING.format(".env, line 1")]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ANOMOE_KEYS_FILE", "ANOMOE_API_KEYS_FILE"),
        ("anomoe_api_keyfile", "ANOMOE_API_KEYS_FILE"),
        ("ANOMOE_API_KEYS", "ANOMOE_API_KEYS_FILE"),
        ("ANOMEO_API_KEYS_FILE", "ANOMOE_API_KEYS_FILE"),
        ("API_KEYS_FILE", "ANOMOE_API_KEYS_FILE"),
        ("REQUIRE_KEYS", "ANOMOE_REQUIRE_KEYS"),
        ("ANOMOE-API-KEYS-FILE", "ANOMOE_API_KEYS_FILE"),
        ("ANOMOE_REQUIRE_KEY", "ANOMOE_REQUIRE_KEYS"),
        ("ANOMOE_BUNDLE", "ANOMOE_BUNDLES"),
    ],
)
def test_the_nearest_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"{name}=x\n")
    assert ineffective_settings() == [f"{name} (.env, line 1) is no setting, {meant} may be meant"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n# keys\nANOMOE_API_KEYS_FILE: keys.txt\n", "line 3: NAME=value is expected"),
        ("ANOMOE_API_KEYS_FILE keys.txt\n", "line 1: NAME=value is expected"),
        ("ANOMOE_API_KEYS_FILE='keys.txt\n", "line 1: NAME=value is expected"),
        ("ANOMOE_API_KEYS_FILE\n", r"ANOMOE_API_KEYS_FILE \(.env, line 1\) has no value"),
        (
            "ANOMOE_REQUIRE_KEYS=yes\nOTHER=1\nOTHER=2\nanomoe_require_keys=no\n",
            r"ANOMOE_REQUIRE_KEYS \(.env, line 1\) is told again in line 4, and sets nothing",
        ),
    ],
)
def test_lines_that_set_nothing_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(text)
    (found,) = ineffective_settings()
    assert re.search(reason, found)
    assert "keys.txt" not in found


def test_what_is_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container gets a folder where the file that it should see is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").mkdir()
    assert ineffective_settings() == [".env is no file, and sets nothing"]
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").symlink_to(tmp_path / "nowhere")
    assert ineffective_settings() == [".env is no file, and sets nothing"]


def test_a_byte_order_mark_is_no_part_of_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ANOMOE_QUEUE_SIZE=5\n", encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    assert Settings().queue_size == 5


@pytest.mark.parametrize("text", ["example.com", "https://a.example,https://b.example/", "https:/a.example"])
def test_an_origin_that_no_page_can_have_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"cors_origins\n.*origin"):
        Settings.model_validate({"cors_origins": text})


@pytest.mark.parametrize("name", ["state_dir", "api_keys_file", "feedback_dir"])
def test_an_empty_path_is_not_the_working_folder(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name}\n.*a path is expected"):
        Settings.model_validate({name: ""})


@pytest.mark.parametrize("host", ["", "a b", "a\0", "\udcff"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    with pytest.raises(ValidationError, match="host"):
        Settings.model_validate({"host": host})


def test_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        Settings.model_validate({"bundles": str(tmp_path)}).bundle_folders()


def test_every_setting_is_described() -> None:
    text = describe_settings()
    assert all(f"ANOMOE_{name.upper()}" in text for name in Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 100_000),
        ("host_threads", 100_000),
        ("max_batch", 1_000_000),
        ("drain_s", "inf"),
        ("watchdog_s", "nan"),
        ("body_timeout_s", 1e300),
        ("deadline_ms", 10**12),
    ],
)
def test_what_no_machine_can_keep_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})
