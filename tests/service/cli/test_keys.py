"""API keys on the command line: made by `anomoe key`, and given to a service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api_keys import KeyRing, add_key, hash_of, make_key
from service.cli.commands import app
from tests.service.cli.invoking import ask, last_line, runner
from tests.service.conftest import listening


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
