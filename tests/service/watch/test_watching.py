"""A watched folder: every picture in one place with one line, whatever happens in between."""

import asyncio
import json
import os
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from anomoe_client import ClientError, Detection, PictureError, ProblemError, UnreachableError
from anomoe_client.reading import read
from service.watch.folder import LOG, PLACES, Claim, WatchedFolder
from service.watch.journal import Journal, WatchError
from service.watch.watching import Watch, place_of
from tests.service.watch.stub import DETECTION, StubClient

SUFFIXES = frozenset({".png"})


def problem(kind: str, status: int = 422) -> ProblemError:
    return ProblemError(
        kind, status=status, type=f"urn:anomoe:{kind}", title="", detail="", request_id=None, retry_after_s=0
    )


def sort(folder: Path, client: StubClient | None = None, warned: list[str] | None = None) -> None:
    """Judge what is in a folder, in a process that begins and ends."""
    answering: Any = client or StubClient()
    with closing(WatchedFolder(folder, SUFFIXES, settle_s=0)) as watched:
        watch = Watch(watched, {}, lambda _: None, ([] if warned is None else warned).append)
        asyncio.run(watch.run(answering, once=True))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def placed(folder: Path) -> dict[str, str]:
    """Where each picture is."""
    return {path.name: place for place in PLACES for path in (folder / place).iterdir()}


def check(folder: Path, names: set[str]) -> None:
    """Every picture in exactly one folder with exactly one line, which says which."""
    found = [(path.name, place) for place in PLACES for path in (folder / place).iterdir()]
    assert sorted(name for name, _ in found) == sorted(names)
    told = sorted(line["moved_to"] for line in lines(folder))
    assert told == sorted(f"{place}/{name}" for name, place in found)
    assert not any((folder / "judging").iterdir())
    assert not list(folder.glob("*.png"))


def test_pictures_are_sorted_with_a_line_each(tmp_path: Path) -> None:
    for name in ("good.png", "bad.png", "other.png", "broken.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    sort(tmp_path)
    assert placed(tmp_path) == {
        "good.png": "ok",
        "bad.png": "anomaly",
        "other.png": "unknown",
        "broken.png": "unknown",
    }
    told = {line["picture"]: line for line in lines(tmp_path)}
    assert told["bad.png"]["is_anomalous"]
    assert "anomaly_map" not in told["bad.png"]
    assert told["broken.png"]["error"] == "undecodable-picture"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        ".hidden.png",
        "empty.png",
        "notes.txt",
        LOG,
    ]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"is_anomalous": False, "verdict": "normal"}, "ok"),
        ({"is_anomalous": False, "verdict": None}, "ok"),
        ({"is_anomalous": False, "verdict": "undecided"}, "unknown"),
        ({"is_anomalous": False, "verdict": "something new"}, "unknown"),
        ({"is_anomalous": True, "verdict": "anomalous", "reason": "score"}, "anomaly"),
        ({"is_anomalous": True, "verdict": "normal"}, "anomaly"),
        ({"is_anomalous": False, "verdict": "anomalous"}, "anomaly"),
        ({"is_anomalous": True, "reason": "unknown_product", "category": None}, "unknown"),
        ({"is_anomalous": True, "reason": "not_this_product"}, "unknown"),
        ({"is_anomalous": False, "category": None}, "unknown"),
    ],
)
def test_only_a_normal_picture_of_a_known_product_is_ok(fields: dict[str, object], place: str) -> None:
    assert place_of(read(Detection, {**DETECTION, **fields})) == place


def test_errors_are_of_the_picture_or_of_the_service() -> None:
    for error in (PictureError("cannot be read"), problem("", 413), problem("internal", 500)):
        assert place_of(error) == "unknown"
    for error in (problem("busy", 429), UnreachableError("late", is_transient=False)):
        with pytest.raises(type(error)):
            place_of(error)
    for error in (problem("unauthorised", 401), problem("invalid-parameter"), ClientError("no answer")):
        with pytest.raises(WatchError):
            place_of(error)


def test_a_name_that_comes_again_overwrites_nothing(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        (tmp_path / "frame.png").write_text(f"good {text}")
        sort(tmp_path)
    check(tmp_path, {"frame.png", "frame~2.png", "frame~3.png"})
    assert (tmp_path / "ok" / "frame~2.png").read_text() == "good two"


def test_a_file_is_whole_once_it_stays_as_it_is(tmp_path: Path) -> None:
    with closing(WatchedFolder(tmp_path, SUFFIXES, settle_s=0.05)) as watched:
        picture = tmp_path / "slow.png"
        for text in ("a", "ab", "abc"):
            picture.write_text(text)
            assert list(watched.take()) == []
            time.sleep(0.06)
        assert [claim.path.name for claim in watched.take()] == ["slow.png"]


def test_a_picture_that_is_written_while_it_is_judged_is_judged_again(tmp_path: Path) -> None:
    (tmp_path / "slow.png").write_text("good")
    with (tmp_path / "slow.png").open("a") as file:

        class Writing(StubClient):
            def judged(self, path: Path) -> Detection | ClientError:
                result = super().judged(path)
                if not file.closed:
                    file.write(", in fact bad")
                    file.close()
                return result

        sort(tmp_path, Writing())
    check(tmp_path, {"slow.png"})
    assert placed(tmp_path) == {"slow.png": "anomaly"}


def test_a_picture_that_is_taken_away_is_told_and_no_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("good")

    class Taking(StubClient):
        def judged(self, path: Path) -> Detection | ClientError:
            path.unlink()
            return super().judged(path)

    warned: list[str] = []
    sort(tmp_path, Taking(), warned)
    assert lines(tmp_path) == []
    assert warned[0].endswith("a.png: somebody took it away")


def test_a_service_that_is_away_loses_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("good")
    (tmp_path / "b.png").write_text("good")
    client: Any = StubClient([UnreachableError("no connection", is_transient=False)] * 2)
    warned: list[str] = []

    async def work() -> None:
        with closing(WatchedFolder(tmp_path, SUFFIXES, 0)) as watched:
            watch = Watch(watched, {}, lambda _: None, warned.append)
            running = asyncio.ensure_future(watch.run(client, once=False))
            while len(placed(tmp_path)) < 2:
                await asyncio.sleep(0.01)
            running.cancel()

    asyncio.run(work())
    assert warned == ["no connection"] * 2
    check(tmp_path, {"a.png", "b.png"})


def test_a_service_that_refuses_everything_ends_the_watch(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("good")
    with pytest.raises(WatchError, match="unauthorised"):
        sort(tmp_path, StubClient([problem("unauthorised", 401)]))
    sort(tmp_path)
    check(tmp_path, {"a.png"})


WRITE = os.write


class Killed(BaseException):
    """The process ends here."""


CHANGES = ((Path, "mkdir"), (Path, "rename"), (Path, "rmdir"), (os, "write"), (os, "fsync"))


def end_before(change: int, patched: pytest.MonkeyPatch) -> list[int]:
    """Let the process end before a change of the folder or its log (a line half written); counts them."""
    made = [0]
    for owner, name in CHANGES:
        real = getattr(owner, name)

        def step(real: Any, *args: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] == change:
                if real is WRITE:
                    WRITE(args[0], args[1][:9])
                raise Killed
            return real(*args, **options)

        patched.setattr(owner, name, lambda *args, real=real, **options: step(real, *args, **options))
    return made


def test_an_end_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"good.png", "bad.png", "broken.png"}
    change, made = 0, [1]
    while made[0] >= change:
        change += 1
        folder = tmp_path / str(change)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
        with monkeypatch.context() as patched, suppress(Killed):
            made = end_before(change, patched)
            sort(folder)
        sort(folder)
        check(folder, names)
    assert change > 20


def test_a_folder_is_watched_once(tmp_path: Path) -> None:
    first = WatchedFolder(tmp_path, SUFFIXES, 0)
    with pytest.raises(WatchError, match="another anomoe watch"):
        WatchedFolder(tmp_path, SUFFIXES, 0)
    first.close()
    WatchedFolder(tmp_path, SUFFIXES, 0).close()


def test_a_line_that_cannot_be_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Journal(tmp_path / LOG)) as journal:
        journal.append({"id": "1"})
        write = os.write

        def full(file: int, data: bytes) -> int:
            if len(data) > 3:
                return write(file, data[:3])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                journal.append({"id": "2"})
        journal.append({"id": "3"})
    assert [line["id"] for line in lines(tmp_path)] == ["1", "3"]


def test_a_log_that_is_none_is_named(tmp_path: Path) -> None:
    sort(tmp_path)
    (tmp_path / LOG).write_text("{}\nnonsense\n")
    (tmp_path / "judging" / "1").mkdir()
    with pytest.raises(WatchError, match=r"watch.jsonl, line 1|line 2"):
        sort(tmp_path)


def test_a_claim_knows_whether_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("a")
    status = path.stat()
    assert Claim(path, (status.st_size, status.st_mtime_ns)).is_unchanged
    assert not Claim(path, (2, status.st_mtime_ns)).is_unchanged
