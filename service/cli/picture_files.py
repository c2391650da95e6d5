"""Which pictures are meant by the paths that a client command is given."""

import os
from collections.abc import Sequence
from pathlib import Path

from export.contract.names import is_hidden

SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
STDIN = Path("-")


def find_pictures(paths: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Every picture once, with the name it is reported under; and what in folders is none by its suffix.

    A name is the path from the closest folder that holds all that is given, so that no two are the same.
    """
    given = [path if path == STDIN else _absolute(path) for path in paths]
    pictures: list[Path] = []
    others: list[Path] = []
    for path in given:
        inside, passed_over = _files(path) if path.is_dir() else ([path], [])
        pictures += inside
        others += passed_over
    common = os.path.commonpath([path.parent for path in given if path != STDIN] or [""])
    named = [(one, one if one == STDIN else one.relative_to(common)) for one in dict.fromkeys(pictures)]
    return named, others


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (without "..", but with a link's own name)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures by their suffix, and other files, in a folder and its folders; hidden ones do not count.

    A folder that cannot be listed is among the pictures: reading it will say why. Links to folders are not
    followed but among the others, as are named pipes, which would keep their reader waiting.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    for where, folders, files in os.walk(folder, onerror=lambda error: pictures.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in folders if Path(where, name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(where, name)
            # Of what cannot be looked at, where pathlib's would raise, reading will say why.
            is_file = os.path.isfile(path) or not os.path.exists(path)  # noqa: PTH110, PTH113
            if not is_hidden(name):
                (pictures if is_file and path.suffix.lower() in SUFFIXES else others).append(path)
    return pictures, others
