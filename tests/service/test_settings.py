"""Settings come from the environment; bundle folders are found where they name them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, describe_settings, unknown_variables


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
    for name in ("many/b", "many/a", "one"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
    entries = f"{tmp_path / 'one'}, {tmp_path / 'many'}"
    folders = Settings.model_validate({"bundles": entries}).bundle_folders()
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == ["one", "many/a", "many/b"]


def test_a_folder_named_twice_is_one_and_a_hidden_one_none(tmp_path: Path) -> None:
    for name in ("a", ".a-being-written"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    folders = Settings.model_validate({"bundles": f"{tmp_path},{tmp_path / 'a'}"}).bundle_folders()
    assert folders == [tmp_path / "a"]


def test_half_a_bundle_beside_a_whole_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "manifest.json").touch()
    (tmp_path / "half" / "graphs").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="half"):
        Settings.model_validate({"bundles": str(tmp_path)}).bundle_folders()


def test_variables_that_are_no_settings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMOE_PROT", "9001")
    monkeypatch.setenv("ANOMOE_PORT", "9001")
    assert "ANOMOE_PROT" in unknown_variables()
    assert "ANOMOE_PORT" not in unknown_variables()


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
