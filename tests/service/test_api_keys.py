"""Keys are kept as hashes, read again when their file changes, and never lost to a broken file."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import api_keys
from service.api_keys import ApiKey, KeyFileError, KeyRing, add_key, hash_of, make_key, open_keys, read_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.txt"


def test_a_key_is_found_by_itself_alone(path: Path) -> None:
    keys = [make_key(name, "infer") for name in ("a", "b")]
    for _, entry in keys:
        add_key(path, entry)
    ring = KeyRing(path)
    assert [ring.find(key) for key, _ in keys] == [entry for _, entry in keys]
    for wrong in ("", keys[0][0][:-1], keys[0][0] + "x", keys[0][1].hash, "anomoe_"):
        assert ring.find(wrong) is None


def test_the_file_tells_no_key_and_is_nobody_elses(path: Path) -> None:
    key, entry = make_key("line-7", "admin")
    add_key(path, entry)
    assert key not in path.read_text()
    assert path.read_text() == f"line-7 admin {hash_of(key)}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) == len("anomoe_") + 43
    assert key != make_key("line-7", "admin")[0]


def test_comments_and_empty_lines_do_not_count_and_names_may_repeat(path: Path) -> None:
    digests = [hash_of(key) for key in "ab"]
    path.write_text(f"# cameras\n\ncam infer {digests[0]}\n  # new one\ncam infer {digests[1]}")
    assert read_keys(path) == tuple(ApiKey("cam", "infer", digest) for digest in digests)
    add_key(path, ApiKey("boss", "admin", hash_of("c")))
    assert [key.name for key in read_keys(path)] == ["cam", "cam", "boss"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("cam infer\n", "line 1.*2 words"),
        (f"cam infer {hash_of('a')}\ncam root {hash_of('a')}\n", "line 2.*role"),
        (f"c/m infer {hash_of('a')}\n", "line 1.*name"),
        ("cam infer my-plain-key\n", "line 1.*sha256"),
    ],
)
def test_wrong_lines_are_named_and_not_repeated(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(KeyFileError, match=words) as caught:
        KeyRing(path)
    assert "my-plain-key" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(KeyFileError, match=str(path)):
            KeyRing(path)


def test_a_wrong_name_makes_no_key() -> None:
    with pytest.raises(KeyFileError, match="'two words'"):
        make_key("two words", "infer")


def test_keys_are_replaced_while_it_runs_and_a_broken_file_changes_nothing(path: Path) -> None:
    (old, old_entry), (new, new_entry) = make_key("cam", "infer"), make_key("cam", "infer")
    add_key(path, old_entry)
    ring = KeyRing(path)
    add_key(path, new_entry)
    assert ring.find(old) is not None
    assert ring.find(new) is not None
    path.write_text(f"{new_entry.line()}\n")
    assert ring.find(old) is None
    path.write_text("broken")
    assert ring.find(new) == new_entry
    path.unlink()
    assert ring.find(new) == new_entry
    path.write_text(f"{old_entry.line()}\n")
    os.utime(path, (1, 1))
    assert ring.find(old) == old_entry
    assert ring.find(new) is None


def test_a_withdrawn_key_is_gone_though_the_changed_file_could_not_be_read_at_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old, old_entry), (_, new_entry) = make_key("old", "infer"), make_key("new", "infer")
    add_key(path, old_entry)
    ring = KeyRing(path)
    path.write_text(f"{new_entry.line()}\n")

    def fail(_: Path) -> tuple[ApiKey, ...]:
        raise KeyFileError("too many open files")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(api_keys, "read_keys", fail)
        assert [ring.find(old), ring.find(old)] == [old_entry, old_entry]
    assert len(logs) == 1
    assert ring.find(old) is None


def test_a_byte_order_mark_is_no_part_of_a_name(path: Path) -> None:
    path.write_text(f"cam infer {hash_of('a')}\r\n", encoding="utf-8-sig")
    assert [key.name for key in read_keys(path)] == ["cam"]


EMPTIED = [b"", b" \n\n", b"# cameras\n", b"\xef\xbb\xbf", b"\xc2\xa0\n"]
BROKEN = [b"cam infer sha256:12", b"cam", b"\0" * 100, "cam infer".encode("utf-16"), b"\xff"]


@pytest.mark.parametrize("content", [*EMPTIED, *BROKEN])
def test_an_emptied_or_broken_file_is_refused_at_the_start_and_leaves_the_keys_while_it_runs(
    path: Path, content: bytes
) -> None:
    key, entry = make_key("cam", "infer")
    add_key(path, entry)
    ring = KeyRing(path)
    path.write_bytes(content)
    with capture_logs() as logs:
        assert [ring.find(key), ring.find(key)] == [entry, entry]
    assert [(log["log_level"], str(path) in log["reason"]) for log in logs] == [("error", True)]
    with pytest.raises(KeyFileError, match=str(path)):
        KeyRing(path)


@pytest.mark.parametrize("content", EMPTIED)
def test_an_emptied_file_takes_its_first_key_again(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    key, entry = make_key("cam", "infer")
    add_key(path, entry)
    assert KeyRing(path).find(key) == entry


def test_without_a_file_there_are_no_keys_unless_they_are_required(path: Path) -> None:
    assert open_keys(None, required=False) is None
    with pytest.raises(KeyFileError, match="api_keys_file is not set"):
        open_keys(None, required=True)
    key, entry = make_key("cam", "infer")
    add_key(path, entry)
    for required in (False, True):
        ring = open_keys(path, required=required)
        assert ring is not None
        assert ring.find(key) == entry
