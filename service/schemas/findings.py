"""What is found in a picture, as the answer of the API tells it."""

from dataclasses import dataclass
from typing import Literal

from export.contract.manifest import Level

MapEncoding = Literal["png", "png16", "overlay", "npy"]
CategorySource = Literal["request", "recognised", "unknown"]
Reason = Literal["score", "unknown_product", "not_this_product"]


@dataclass(frozen=True)
class Selected:
    """A chosen expert and its gate weight."""

    level: Level
    index: int
    weight: float


@dataclass(frozen=True)
class LevelShare:
    """One level alone: its display score 0..1 and the gate weight of its chosen experts."""

    score: float
    weight: float


@dataclass(frozen=True)
class Region:
    """A connected part of the map above the pixel threshold, in pixels of the uploaded picture.

    area: pixels. peak: highest display score, 0.5..1. level: the one that contributes most at the peak.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float
    level: Level
