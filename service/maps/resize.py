"""A map resized to the picture, in bands of rows."""

from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.contract.category import FloatArray

Drawn = npt.NDArray[Any]


BAND_PIXELS = 2**16  # that are drawn at once


def stretched(values: FloatArray, width: int, height: int) -> Generator[FloatArray, None, None]:
    """Bilinear resize of one map, antialiased where it shrinks, in bands of rows that stay in a core's cache.

    Pillow changes the width, which costs little, and the height if it shrinks; rows are mixed here.
    """
    rows = min(height, len(values))
    if values.shape != (rows, width):
        image = Image.fromarray(values).resize((width, rows), Image.Resampling.BILINEAR)
        values = np.asarray(image, np.float32)
    step = max(1, BAND_PIXELS // width)
    if rows == height:
        yield from (values[start : start + step] for start in range(0, height, step))
        return
    at = ((np.arange(height) + 0.5) * (rows / height) - 0.5).clip(0, rows - 1)
    above = at.astype(np.intp)
    share: FloatArray = (at - above).astype(np.float32)[:, None]
    slopes = np.diff(values, axis=0, append=values[-1:])
    for band in (slice(start, start + step) for start in range(0, height, step)):
        mixed = slopes.take(above[band], axis=0)
        mixed *= share[band]
        mixed += values.take(above[band], axis=0)
        yield mixed
