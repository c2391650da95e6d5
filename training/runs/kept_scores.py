"""What test pictures were found to be, on disk batch by batch: a stopped evaluation goes on where it was.

Only one batch is in memory at a time, however many pictures there are.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from training.data.pictures import Sample
from training.reporting.scored import file_name

Batch = Mapping[str, npt.NDArray[Any]]
KEY = "key.txt"


@contextmanager
def kept_in(folder: Path | None, key: str) -> Iterator[Path]:
    """A folder for scores of this key, which is removed when all is done; folder: None for a temporary one.

    What it holds of another key is removed first, and what it holds of this one is gone on from.
    """
    if folder is None:
        with TemporaryDirectory(prefix="anomoe-scores-") as temporary:
            yield Path(temporary)
        return
    if folder.exists() and _key_of(folder) != key:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY).write_text(key, encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


def _key_of(folder: Path) -> str | None:
    """Raises FileExistsError for a folder that was not made here: it would be removed."""
    try:
        return (folder / KEY).read_text(encoding="utf-8")
    except OSError as error:
        raise FileExistsError(f"{folder}: holds no scores, and would be written over") from error


def files_key(samples: Sequence[Sample]) -> str:
    """Changes with any picture or mask, by name, size and time."""
    digest = hashlib.sha256()
    for path in (path for one in samples for path in (one.path, *one.mask_paths) if path.exists()):
        stat = path.stat()
        digest.update(os.fsencode(f"{path} {stat.st_size} {stat.st_mtime_ns}\n"))
    return digest.hexdigest()


class KeptScores:
    """The batches of the pictures of one category, in order; read whenever they are asked for.

    folder: None for in memory.
    """

    def __init__(self, folder: Path | None, pictures: int, batch: int) -> None:
        self.folder, self.pictures, self.batch = folder, pictures, batch
        self._held: dict[int, Batch] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._held or (self.folder is not None and self._path(self.folder, number).exists())

    def keep(self, number: int, scores: Batch) -> None:
        """Write a batch, at once or not at all."""
        if self.folder is None:
            self._held[number] = scores
            return
        path = self._path(self.folder, number)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **scores)  # type: ignore[arg-type]
        part.replace(path)

    def read(self, number: int) -> Batch:
        """One batch."""
        if self.folder is None:
            return self._held[number]
        with np.load(self._path(self.folder, number)) as file:
            return dict(file)

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"{number:08d}.npz"

    def __iter__(self) -> Iterator[Batch]:
        return (self.read(number) for number in range(-(-self.pictures // self.batch)))

    def all(self, name: str) -> npt.NDArray[Any]:
        """One small array of all pictures."""
        return np.concatenate([part[name] for part in self])


class KeptMaps(Sequence[npt.NDArray[np.floating]]):
    """The maps of kept pictures, made a batch at a time of what was kept; read by number or in order."""

    def __init__(self, kept: KeptScores, draw: Callable[[Batch], npt.NDArray[np.floating]]) -> None:
        self.kept, self.draw = kept, draw

    def __len__(self) -> int:
        return self.kept.pictures

    def __iter__(self) -> Iterator[npt.NDArray[np.floating]]:
        return (one for part in self.kept for one in self.draw(part))

    @overload
    def __getitem__(self, row: int) -> npt.NDArray[np.floating]: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[npt.NDArray[np.floating]]: ...

    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(len(self))[row]]
        number = range(len(self))[row]
        return self.draw(self.kept.read(number // self.kept.batch))[number % self.kept.batch]


def keep_scores(
    folder: Path | None,
    samples: Sequence[Sample],
    batch: int,
    score: Callable[[Sequence[Sample]], Batch],
    progress: Progress,
    description: str,
) -> KeptScores:
    """Score pictures of a category, but for those batches that are in the folder; returns all of them."""
    own = folder and folder / f"{file_name(samples[0].category)}.scores"
    if own is not None:
        own.mkdir(parents=True, exist_ok=True)
    kept = KeptScores(own, len(samples), batch)
    starts = range(0, len(samples), batch)
    for number, start in enumerate(progress.track(starts, description=description)):
        if number not in kept:
            kept.keep(number, score(samples[start : start + batch]))
    return kept
