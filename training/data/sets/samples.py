"""What is known of a picture before it is read, and what a form of data set is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
GOOD = "good"


class DataError(ValueError):
    """A data set that cannot be used as it is; the message names the file or folder."""


@dataclass(frozen=True)
class Sample:
    """One picture of a data set; `kind` is "good" or the kind of defect.

    subfolder: below the folder of its kind, with `/` between parts. dataset: the known data set that it
    belongs to. description: what it shows, where the name of its category does not say so.
    """

    path: Path
    category: str
    split: Split
    kind: str
    mask_paths: tuple[Path, ...]
    is_anomalous: bool
    subfolder: str = ""
    dataset: str = ""
    description: str = ""


class Form(NamedTuple):
    """One layout of files: what it looks like, whether a folder has it, and the pictures of such a folder."""

    expected: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], list[Sample]]
