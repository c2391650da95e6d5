"""Normal pictures of a run: kept in memory where they fit, read again at each use where they do not.

Legend: n pictures, H W pixels.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels
from training.data.pictures import load_picture
from training.data.sets.samples import Sample

Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]

AT_ONCE = 64  # pictures that are read side by side and held at most while they are not kept


class Pictures(Protocol):
    """Pictures uint8 (n, H, W, 3): an array, or a `PictureRows` that reads them when they are indexed."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, rows: slice | Rows, /) -> Pixels: ...

    @overload
    def __getitem__(self, rows: int | np.integer, /) -> Pixels: ...


class PictureStore:
    """All pictures of a run at model size; each is read once, so that a broken one is told before training.

    most_bytes: they are kept if all of them together need no more. workers: threads that read, as decoders
    and resizing leave the interpreter free. jpeg: as of `load_picture`. digests: of the pixels of each
    picture.
    Raises DataError naming a file that cannot be read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: InputSpec,
        most_bytes: float,
        workers: int,
        progress: Progress,
        jpeg: tuple[int, int] | None = None,
    ) -> None:
        self.spec, self.workers, self.jpeg = spec, workers, jpeg
        self.digests: dict[Sample, bytes] = {}
        self._kept: dict[Sample, Pixels] = {}
        keeps = len(samples) * spec.height * spec.width * 3 <= most_bytes
        task = progress.add_task("read", total=len(samples))
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE]
            pictures = dict(zip(part, self._read(part), strict=True))
            self.digests |= {
                one: hashlib.sha256(pixels.tobytes()).digest() for one, pixels in pictures.items()
            }
            if keeps:
                self._kept |= pictures
            progress.advance(task, len(part))

    def load(self, samples: Sequence[Sample]) -> Pixels:
        """Pictures (n, H, W, 3), those that are not kept from their files."""
        absent = [one for one in samples if one not in self._kept]
        found = dict(zip(absent, self._read(absent), strict=True))
        pixels = np.empty((len(samples), self.spec.height, self.spec.width, 3), np.uint8)
        for row, one in enumerate(samples):
            pixels[row] = found[one] if one in found else self._kept[one]
        return pixels

    def _read(self, samples: Sequence[Sample]) -> list[Pixels]:
        if len(samples) < 2:
            return [load_picture(one.path, self.spec, self.jpeg) for one in samples]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(lambda one: load_picture(one.path, self.spec, self.jpeg), samples))


class PictureRows:
    """Some pictures of a store, indexed as an array (n, H, W, 3) would be."""

    def __init__(self, store: PictureStore, samples: Sequence[Sample]) -> None:
        self.store, self.samples = store, list(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, rows: int | np.integer | slice | Rows, /) -> Pixels:
        numbers = np.arange(len(self.samples))[rows]
        pixels = self.store.load([self.samples[row] for row in np.atleast_1d(numbers)])
        return pixels if numbers.ndim else pixels[0]

    def digests(self) -> Iterator[npt.NDArray[np.uint8]]:
        """What tells each of the pictures from others."""
        return (np.frombuffer(self.store.digests[one], np.uint8) for one in self.samples)


def take(pictures: Pictures, rows: Rows) -> Pictures:
    """Some of the pictures, not read yet where they are not."""
    if isinstance(pictures, PictureRows):
        return PictureRows(pictures.store, [pictures.samples[row] for row in np.arange(len(pictures))[rows]])
    return pictures[rows]


def batches(pictures: Pictures, size: int) -> Iterator[Pixels]:
    """The pictures in parts of at most `size`; the next part is read while one is used."""
    starts = range(0, len(pictures), size)
    with ThreadPoolExecutor(1) as ahead:
        parts = (ahead.submit(lambda first: pictures[first : first + size], start) for start in starts)
        upcoming = next(parts, None)
        while upcoming is not None:
            ready, upcoming = upcoming.result(), next(parts, None)
            yield ready
