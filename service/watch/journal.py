"""The log of a watched folder: one JSON line a picture, each on disk before the picture is moved."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


class WatchError(Exception):
    """The folder cannot be watched, or no picture can be judged; the message says why in one line."""


class Journal:
    """Lines that are whole or not there, whatever ends the process while one is written.

    Raises: OSError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        with path.open("rb") as file:
            torn = len(file.read().rpartition(b"\n")[2])
        if torn:
            os.ftruncate(self._file, self.size() - torn)

    def size(self) -> int:
        """Bytes, all of whole lines."""
        return os.fstat(self._file).st_size

    def append(self, entry: Mapping[str, object]) -> None:
        """Write a line and have it on disk. Raises: OSError, then there is none."""
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        before = self.size()
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """Each line from a byte on, with its end."""
        with self.path.open("rb") as file:
            file.seek(start)
            yield from file

    def moves(self) -> Iterator[tuple[str, str]]:
        """Each line's id, and where its picture belongs. Raises: WatchError for a line that is none."""
        for number, line in enumerate(self.lines(), start=1):
            try:
                entry = json.loads(line)
                yield entry["id"], entry["moved_to"]
            except (ValueError, KeyError, TypeError) as error:
                raise WatchError(f"{self.path}, line {number}: not a line of this log: {error!r}") from error

    def close(self) -> None:
        """No line is written any more."""
        os.close(self._file)
