"""What an evaluation makes figures of: pictures with their scores and maps, whatever scored them.

Legend: n pictures, L levels, Hm Wm map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from training.data.pictures import Sample

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def file_name(category: str) -> str:
    """The name of a category as a part of a file's name, whatever a list calls it."""
    return quote(category, safe=" ")


@dataclass(frozen=True, eq=False)
class Scored:
    """Test pictures of one category, good ones first, with scores (n,), level scores (n, L) and maps.

    maps: one (Hm, Wm) a picture. alarms: bool (n,), verdicts as served. pixel_threshold: of the maps. None
    where nothing was calibrated.
    """

    samples: Sequence[Sample]
    scores: Floats
    level_scores: Floats
    maps: Sequence[Floats]
    alarms: Bools | None = None
    pixel_threshold: float | None = None


Scoring = Callable[[list[Sample]], Scored]
"""Scores the test pictures of one category, by a checkpoint or by anything else."""
