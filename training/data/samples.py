"""What is known of a picture before it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
GOOD = "good"


class DataError(ValueError):
    """A data set that cannot be used as it is; the message names the file or folder."""


@dataclass(frozen=True)
class Sample:
    """One picture of a data set; `kind` is "good" or the kind of defect.

    subfolder: below the folder of its kind, with `/` between parts.
    """

    path: Path
    category: str
    split: Split
    kind: str
    mask_paths: tuple[Path, ...]
    is_anomalous: bool
    subfolder: str = ""
