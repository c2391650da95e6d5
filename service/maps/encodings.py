"""Anomaly maps as files, and the anomalous regions in them.

The raw map (Hm, Wm) covers the part of the picture that the model saw; whatever was cropped away is 0.
Sizes are (width, height), as Pillow's; arrays are (height, width), as numpy's.
"""

import io
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.contract.category import FloatArray
from export.contract.decision import display_score
from service.maps.overlay import overlay
from service.maps.placement import Place
from service.maps.png import grey_png, png
from service.maps.resize import Drawn, stretched
from service.schemas.findings import MapEncoding


def encode_map(
    raw_map: FloatArray,
    threshold: float,
    encoding: MapEncoding,
    place: Place,
    picture: Image.Image | None = None,
) -> bytes:
    """Write a raw map (Hm, Wm), resized bilinearly to its place, as a file.

    npy: display scores as float32. png, png16: 8 or 16 bit grey, above 127 or 32767 exactly where the resized
    map is above the threshold. overlay: an RGB png, the picture under the coloured map.
    Raises ValueError when an overlay has no picture.
    """
    if encoding == "npy":
        scores = partial(display_score, threshold=threshold)
        return _npy(_bands(raw_map, place, scores, np.float32), place.size)
    dtype = np.uint16 if encoding == "png16" else np.uint8
    levels = _bands(raw_map, place, partial(_quantised, threshold=threshold, dtype=dtype), dtype)
    if encoding != "overlay":
        return grey_png(levels, place.size, np.iinfo(dtype).bits)
    if picture is None:
        raise ValueError("picture: an overlay needs one, got None")
    return png(overlay(picture, np.concatenate(list(levels))))


def _bands(
    raw_map: FloatArray, place: Place, told: Callable[[FloatArray], Drawn], dtype: npt.DTypeLike
) -> Generator[Drawn, None, None]:
    """What is told of each value of a map in its place, 0 around it: whole rows, from the top."""
    width, height = place.size
    sides = place.left, width - place.left - place.width
    above, below = place.top, height - place.top - place.height
    if above:
        yield np.zeros((above, width), dtype)
    for values in stretched(raw_map, place.width, place.height):
        yield np.pad(told(values), ((0, 0), sides)) if any(sides) else told(values)
    if below:
        yield np.zeros((below, width), dtype)


def _quantised(values: FloatArray, threshold: float, dtype: type[np.unsignedinteger[Any]]) -> Drawn:
    """Display scores as integers; which half a pixel is in is decided by the raw threshold.

    A score raw / (raw + threshold) is 1 - threshold / (raw + threshold), which takes fewer passes.
    """
    highest = np.iinfo(dtype).max
    offset = max(threshold, float(np.finfo(np.float32).tiny))
    scores: FloatArray = np.add(values, offset)
    np.divide(highest * offset, scores, out=scores)
    np.subtract(highest + 0.5, scores, out=scores)
    quantised: Drawn = scores.astype(dtype)
    # Rounding takes a value next to the threshold at most one step beyond the middle.
    quantised -= quantised > highest // 2
    quantised += values > threshold
    return quantised


def _npy(scores: Iterable[Drawn], size: tuple[int, int]) -> bytes:
    """A file of numpy's of float32 (height, width), whose rows come in bands."""
    head = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": size[::-1]}
    np.lib.format.write_array_header_1_0(head, described)
    return b"".join([head.getvalue(), *(band.astype("<f4").tobytes() for band in scores)])
