"""Where a map lies in the picture."""

import math
from typing import NamedTuple

from export.contract.category import FloatArray
from export.contract.manifest import InputSpec
from export.contract.preprocess import visible_box


class Place(NamedTuple):
    """Where a raw map lies: in a picture of `size`, from `left`, `top` on, `width` and `height` pixels."""

    size: tuple[int, int]
    left: int
    top: int
    width: int
    height: int


def place_in_picture(size: tuple[int, int], spec: InputSpec) -> Place:
    """Over the part of a picture of `size` that the model saw."""
    left, top, right, bottom = visible_box(size, spec)
    x, y = math.floor(left), math.floor(top)
    return Place(size, x, y, math.ceil(right) - x, math.ceil(bottom) - y)


def place_alone(raw_map: FloatArray) -> Place:
    """As it is."""
    height, width = raw_map.shape
    return Place((width, height), 0, 0, width, height)
