"""What inspectors say of pictures, kept in the folder form that `anomoe-train` reads."""

import json
import re
from collections import defaultdict
from hashlib import sha256
from itertools import chain
from pathlib import Path
from threading import Lock

from service.errors import Kind, Problem, shown
from service.images.formats import format_of
from service.schemas.feedback import Judgement

PLACES: dict[Judgement, str] = {"ok": "train/good", "ng": "test/ng"}
UNKNOWN = "unknown"
SAFE_NAME = re.compile(r"[^\s./\\][^/\\\x00-\x1f\x7f]{0,99}")
NAME = "feedback-"  # other files of the folder are neither counted nor removed


class FeedbackStore:
    """Pictures as `<folder>/<category>/train/good` (ok) or `test/ng`, each with its answer beside it as JSON.

    A picture has one judgement, the last. Above max_bytes the oldest pictures are removed.
    Raises: OSError when the folder cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._folder.mkdir(parents=True, exist_ok=True)

    def keep(
        self, data: bytes, category: str | None, judgement: Judgement, answer: dict[str, object] | None
    ) -> Path:
        """Keep a picture; gives its path within the folder.

        Raises: Problem (413 larger than the whole store, 415 no picture, 422 category, 503 not writable).
        """
        suffix = _suffix(data)
        category = category or UNKNOWN
        if not SAFE_NAME.fullmatch(category):
            detail = f"category: a name without / and \\ is expected, got {shown(category)}"
            raise Problem(Kind.INVALID_PARAMETER, detail)
        record = json.dumps({"judgement": judgement, "category": category, "answer": answer}).encode()
        if len(data) + len(record) > self._max_bytes:
            detail = (
                f"feedback: {len(data) + len(record)} bytes are more than feedback_bytes, {self._max_bytes}"
            )
            raise Problem(Kind.TOO_LARGE, detail)
        stem = NAME + sha256(data).hexdigest()[:32]
        place = Path(category, PLACES[judgement])
        try:
            with self._lock:
                self._remove(f"*/*/*/{stem}.*")
                self._make_room(len(data) + len(record))
                (self._folder / place).mkdir(parents=True, exist_ok=True)
                _write(self._folder / place / f"{stem}.json", record)
                _write(self._folder / place / f"{stem}{suffix}", data)
        except OSError as error:
            raise Problem(Kind.UNAVAILABLE, f"feedback_dir: {error.strerror}") from error
        return place / f"{stem}{suffix}"

    def _remove(self, pattern: str) -> None:
        for path in self._folder.glob(pattern):
            path.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        """Remove the oldest pictures, each with its answer, until so many bytes more may be kept."""
        sizes: dict[Path, int] = defaultdict(int)
        ages: dict[Path, float] = {}
        for path in chain.from_iterable(self._folder.glob(f"*/{place}/{NAME}*") for place in PLACES.values()):
            stat, stem = path.stat(), path.with_name(path.name.partition(".")[0])
            sizes[stem] += stat.st_size
            ages[stem] = stat.st_mtime
        total = sum(sizes.values())
        for stem in sorted(ages, key=ages.__getitem__):
            if total + wanted <= self._max_bytes:
                return
            total -= sizes[stem]
            for path in stem.parent.glob(f"{stem.name}.*"):
                path.unlink(missing_ok=True)


def _suffix(data: bytes) -> str:
    kind = format_of(data)
    if kind is None:
        raise Problem(Kind.NOT_A_PICTURE, "file: the bytes are of no picture type that is read")
    return f".{kind.lower()}"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
