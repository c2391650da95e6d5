"""Folders and pictures by name, whatever the case and the Unicode form of their names."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from export.contract.names import composed, is_hidden
from training.data.sets.samples import DataError

SUFFIXES = ".avif .bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp"


def on_disk(path: Path) -> Path:
    """The path as it is there, should its names be written in another Unicode form."""
    if path.exists() or path == path.parent:
        return path
    folder = on_disk(path.parent)
    return next((one for one in visible(folder) if composed(one.name) == composed(path.name)), path)


def listed(files: Sequence[Path], root: Path) -> str:
    """How many files of each suffix, and the first: `2 .txt (notes/a.txt), 1 .png (val/1.png)`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.suffix.lower() or "without suffix"].append(file)
    each = [f"{len(group)} {name} ({group[0].relative_to(root)})" for name, group in groups.items()]
    return ", ".join(each) or "nothing"


def category_name(folder: Path) -> str:
    """Raises DataError for a name that is no text: it could not be saved when training is done."""
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(folder)!r}: the name of a category must be UTF-8") from error
    return composed(folder.name)


def stem(path: Path, folder: Path) -> str:
    """What a picture and its mask have in common."""
    return composed(path.relative_to(folder).with_suffix("").as_posix())


def key(name: str) -> str:
    """A name without case, and blanks around it."""
    return composed(name).strip().casefold()


def named(folder: Path, *names: str) -> list[Path]:
    """The folders in it of these names."""
    wanted = {key(name) for name in names}
    return [one for one in folders_in(folder) if key(one.name) in wanted]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in it, in order."""
    return [one for one in visible(folder) if one.is_dir()]


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in a folder and those below, in order."""
    return [one for one in files_in(folder) if one.suffix.lower() in SUFFIXES.split()]


def files_in(folder: Path, around: tuple[Path, ...] = ()) -> list[Path]:
    """All visible files in a folder and those below, in order; around: the folders that it lies in."""
    inside = (*around, folder.resolve())
    found: list[Path] = []
    for entry in visible(folder):
        if not entry.is_dir():
            found.append(entry)
        elif entry.resolve() not in inside:  # else a link in a circle
            found += files_in(entry, inside)
    return found


def by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by what they have in common with their masks."""
    return {stem(path, folder): path for path in pictures_in(folder)}


def visible(folder: Path) -> list[Path]:
    """What is in a folder, in order, less what is hidden; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))
