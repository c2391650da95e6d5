"""A folder that cameras write to: which pictures are whole, where one is while it is judged, where it ends.

A picture is moved to `judging/ID/` first, where no camera writes, then a line of the log says where it
belongs, then it is moved there. Whatever ends the process in between, the next one goes on from there: a
picture in `judging` without a line is judged, one with a line is moved.
"""

import os
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Literal
from uuid import uuid4

from service.watch.journal import Journal, WatchError

if sys.platform != "win32":
    import fcntl

LOG = "watch.jsonl"
JUDGING = "judging"
Place = Literal["ok", "anomaly", "unknown"]
PLACES: tuple[Place, ...] = ("ok", "anomaly", "unknown")
Stamp = tuple[int, int]  # size and time of the last change, in ns


@dataclass(frozen=True)
class Claim:
    """A picture in `judging`, alone in the folder of its id; its stamp is from before it was read."""

    path: Path
    stamp: Stamp

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody wrote to it since."""
        return _stamp(self.path) == self.stamp


class WatchedFolder:
    """One folder, watched by one process; `settle_s` is how long a whole file has been as it is.

    Raises: WatchError when another process watches it, OSError when it cannot be used.
    """

    def __init__(self, path: Path, suffixes: frozenset[str], settle_s: float) -> None:
        self.path, self.suffixes, self.settle_s = path, suffixes, settle_s
        self._seen: dict[Path, tuple[Stamp, float]] = {}
        with ExitStack() as opened:
            opened.enter_context(_lock(path))
            for name in (JUDGING, *PLACES):
                (path / name).mkdir(exist_ok=True)
            self.journal = opened.enter_context(closing(Journal(path / LOG)))
            self._finish_moves()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let another process watch it."""
        self._opened.close()

    def take(self) -> Iterator[Claim]:
        """Every picture to judge, oldest first: those that were taken before, then those that are whole."""
        taken = [path for where in (self.path / JUDGING).iterdir() for path in where.iterdir()]
        for path in sorted(taken, key=_changed):
            yield Claim(path, _stamp(path))
        for path in self._whole():
            if claim := self._claim(path):
                yield claim

    @property
    def is_empty(self) -> bool:
        """Whether no picture is left to be judged, now or once it is whole."""
        return not self._pictures() and not any((self.path / JUDGING).iterdir())

    def put(self, claim: Claim, place: Place, told: Mapping[str, object]) -> dict[str, object]:
        """Write the picture's line, then move it; gives the line. Raises: OSError."""
        name, identity = claim.path.name, claim.path.parent.name
        entry: dict[str, object] = {
            "id": identity,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "picture": name,
            "moved_to": f"{place}/{self._free_name(place, name)}",
            **told,
        }
        self.journal.append(entry)
        claim.path.rename(self.path / str(entry["moved_to"]))
        claim.path.parent.rmdir()
        return entry

    def forget(self, claim: Claim) -> None:
        """Leave out a picture that somebody took away."""
        claim.path.parent.rmdir()

    def _pictures(self) -> dict[Path, Stamp]:
        """What of the folder itself is a picture by its suffix, with something in it, in order of age."""
        found: dict[Path, Stamp] = {}
        for entry in os.scandir(self.path):
            is_picture = Path(entry.name).suffix.lower() in self.suffixes and entry.name[0] != "."
            with suppress(FileNotFoundError):
                if is_picture and entry.is_file(follow_symlinks=False) and entry.stat().st_size:
                    found[Path(entry.path)] = _stamp(Path(entry.path))
        return dict(sorted(found.items(), key=lambda one: (one[1][1], one[0])))

    def _whole(self) -> list[Path]:
        """Pictures that are as they were `settle_s` ago."""
        now, present = monotonic(), self._pictures()
        before = self._seen
        self._seen = {
            path: before[path] if path in before and before[path][0] == stamp else (stamp, now)
            for path, stamp in present.items()
        }
        return [path for path, (_, since) in self._seen.items() if now - since >= self.settle_s]

    def _claim(self, path: Path) -> Claim | None:
        """The picture where no camera writes; None where somebody else took it away."""
        where = self.path / JUDGING / uuid4().hex
        where.mkdir()
        try:
            claimed = path.rename(where / path.name)
        except FileNotFoundError:
            where.rmdir()
            return None
        return Claim(claimed, _stamp(claimed))

    def _free_name(self, place: Place, name: str) -> str:
        """The picture's own, or one with a number where an earlier picture has it."""
        number, free = 1, name
        while os.path.lexists(self.path / place / free):
            number += 1
            free = f"{Path(name).stem}~{number}{Path(name).suffix}"
        return free

    def _finish_moves(self) -> None:
        """Move what has a line, and remove the folders of ids that hold nothing."""
        waiting = {where.name: where for where in (self.path / JUDGING).iterdir()}
        if not waiting:
            return
        for identity, moved_to in self.journal.moves():
            if where := waiting.get(identity):
                for path in where.iterdir():
                    path.rename(self.path / moved_to)
        for where in waiting.values():
            if not any(where.iterdir()):
                where.rmdir()


@contextmanager
def _lock(path: Path) -> Generator[None, None, None]:
    """Hold a folder, in one process at a time. Raises: WatchError."""
    if sys.platform == "win32":
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise WatchError(f"{path}: another anomoe watch is at work here") from None
    finally:
        os.close(folder)


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
