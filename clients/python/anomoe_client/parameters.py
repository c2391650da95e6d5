"""What may be said with a picture; what is left out, the service chooses."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class _Parameters(TypedDict, total=False):
    map: Literal["png", "png16", "overlay", "npy", "none"]
    map_size: Literal["input", "model"]
    bit_depth: int | None


class DetectParameters(_Parameters, total=False):
    """category: the product, recognised when absent. alpha: accepted false-positive rate, 0 to 1."""

    category: str | None
    alpha: float | None
    regions: bool


class ZeroShotParameters(_Parameters, total=False):
    """threshold: score above which a picture is anomalous, 0 to 1. maps: of the best name, or of all."""

    class_names: Sequence[str]
    domain: Literal["industrial", "medical"]
    threshold: float | None
    maps: Literal["best", "all"]
