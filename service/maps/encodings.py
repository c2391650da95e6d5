"""Anomaly maps as files, and the anomalous regions in them.

The raw map (Hm, Wm) covers the part of the picture that the model saw; whatever was cropped away is 0.
Sizes are (width, height), as Pillow's; arrays are (height, width), as numpy's.
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from zlib_ng import zlib_ng

from export.contract.category import FloatArray
from export.contract.decision import display_score
from export.contract.manifest import LEVELS, InputSpec
from export.contract.preprocess import visible_box
from export.contract.provenance import Level
from service.maps.components import Mask, Numbers, Part, largest_parts
from service.schemas.findings import MapEncoding, Region

Box = tuple[float, float, float, float]
Shares = npt.NDArray[np.float64]
Drawn = npt.NDArray[Any]

MAX_REGIONS = 100

BAND_PIXELS = 2**16  # that are drawn at once

# Dark violet, purple, red, orange, pale yellow: brightness rises evenly, so the ramp also reads in grey.
_RAMP = ((13, 8, 60), (120, 28, 109), (213, 62, 60), (250, 158, 40), (252, 255, 164))
_OUTLINE = (255, 255, 255)
_HIGHEST_OPACITY = 0.7

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2  # the filter of a row


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
        return _grey_png(levels, place.size, np.iinfo(dtype).bits)
    if picture is None:
        raise ValueError("picture: an overlay needs one, got None")
    return _png(_overlay(picture, np.concatenate(list(levels))))


def find_regions(
    raw_map: FloatArray, level_maps: FloatArray, threshold: float, size: tuple[int, int], spec: InputSpec
) -> list[Region]:
    """The 8-connected parts above the threshold, largest first, at most MAX_REGIONS.

    raw_map (Hm, Wm), level_maps (3, h, w) in the order of LEVELS, size of the uploaded picture. Of a picture
    that is smaller than the map they are the parts of what is drawn.
    """
    raw_map = _shrunk(raw_map, place_in_picture(size, spec))
    parts = largest_parts(raw_map > threshold, raw_map, MAX_REGIONS)
    if not parts:
        return []
    ys, xs = np.transpose([part.peak for part in parts])
    levels: list[int] = _at(level_maps, ys, xs, raw_map.shape).argmax(axis=0).tolist()
    peaks = [display_score(peak, threshold) for peak in raw_map[ys, xs].tolist()]
    box = visible_box(size, spec)
    return [
        _region(part, peak, LEVELS[level], raw_map.shape, box)
        for part, peak, level in zip(parts, peaks, levels, strict=True)
    ]


def _region(part: Part, peak: float, level: Level, shape: tuple[int, ...], box: Box) -> Region:
    """A part of a map of `shape` (height, width) that covers a box of the picture."""
    left, top, right, bottom = box
    height, width = shape
    x, x_end = _stretch(part.left, part.right, left, (right - left) / width)
    y, y_end = _stretch(part.top, part.bottom, top, (bottom - top) / height)
    area = max(1, round(part.area * (right - left) * (bottom - top) / (width * height)))
    return Region(x=x, y=y, width=x_end - x, height=y_end - y, area=area, peak=peak, level=level)


def _at(maps: FloatArray, ys: Numbers, xs: Numbers, shape: tuple[int, ...]) -> Shares:
    """Maps (n, h, w) at pixels (p,) of `shape` (height, width), bilinearly: (n, p)."""
    rows = _shares(ys, shape[0], maps.shape[1]) @ maps
    return (rows * _shares(xs, shape[1], maps.shape[2])).sum(axis=-1)


def _shares(pixels: Numbers, length: int, cells: int) -> Shares:
    """What each of a row of cells counts at pixels (p,) of the `length` that it is resized to: (p, cells)."""
    places = ((pixels + 0.5) * cells / length - 0.5).clip(0, cells - 1)
    return np.maximum(1 - np.abs(np.arange(cells) - places[:, None]), 0)


def _stretch(start: int, stop: int, offset: float, scale: float) -> tuple[int, int]:
    """The whole pixels that map cells start..stop touch; rounding noise does not count as touching."""
    return math.floor(offset + start * scale + 1e-6), math.ceil(offset + stop * scale - 1e-6)


def _shrunk(raw_map: FloatArray, place: Place) -> FloatArray:
    """A map with no more rows and columns than its place."""
    rows, columns = np.minimum(raw_map.shape, (place.height, place.width)).tolist()
    if raw_map.shape == (rows, columns):
        return raw_map
    return np.concatenate(list(_stretched(raw_map, columns, rows)))


def _bands(
    raw_map: FloatArray, place: Place, told: Callable[[FloatArray], Drawn], dtype: npt.DTypeLike
) -> Generator[Drawn, None, None]:
    """What is told of each value of a map in its place, 0 around it: whole rows, from the top."""
    width, height = place.size
    sides = place.left, width - place.left - place.width
    above, below = place.top, height - place.top - place.height
    if above:
        yield np.zeros((above, width), dtype)
    for values in _stretched(raw_map, place.width, place.height):
        yield np.pad(told(values), ((0, 0), sides)) if any(sides) else told(values)
    if below:
        yield np.zeros((below, width), dtype)


def _stretched(values: FloatArray, width: int, height: int) -> Generator[FloatArray, None, None]:
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


def _overlay(picture: Image.Image, levels: Drawn) -> Image.Image:
    grey = Image.fromarray(levels)
    base = picture if picture.size == grey.size else picture.resize(grey.size)
    heat = grey.copy()
    heat.putpalette(_palette())
    opacity = grey.point([round(value * _HIGHEST_OPACITY) for value in range(256)])
    blended = Image.composite(heat.convert("RGB"), base, opacity)
    blended.paste(_OUTLINE, mask=Image.fromarray(_edge(levels > 127)))
    return blended


def _palette() -> bytes:
    """The ramp at 256 places: red, green, blue, red, ..."""
    anchors = np.linspace(0, 255, len(_RAMP))
    channels = [np.interp(np.arange(256), anchors, [colour[i] for colour in _RAMP]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8).tobytes()


def _edge(mask: Mask) -> Mask:
    """Pixels of a mask with a neighbour outside it, left, right, above or below."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", compress_level=1)
    return file.getvalue()


def _npy(scores: Iterable[Drawn], size: tuple[int, int]) -> bytes:
    """A file of numpy's of float32 (height, width), whose rows come in bands."""
    head = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": size[::-1]}
    np.lib.format.write_array_header_1_0(head, described)
    return b"".join([head.getvalue(), *(band.astype("<f4").tobytes() for band in scores)])


def _grey_png(levels: Iterable[Drawn], size: tuple[int, int], bits: int) -> bytes:
    """A PNG of grey, whose rows come in bands (PNG specification, sections 5 and 9).

    Every row is told as its difference to the one above: in a map, which is smooth, mostly runs of one value.
    Pillow tries five ways on each row, which takes three times as long and more bytes.
    """
    row_bytes = size[0] * bits // 8
    above = np.zeros((1, row_bytes), np.uint8)
    # Its stub leaves types out.
    packer: Any = cast("Any", zlib_ng).compressobj(1, strategy=zlib_ng.Z_RLE)
    data: list[bytes] = []
    for band in levels:
        rows = np.ndarray((len(band), row_bytes), np.uint8, np.asarray(band, f">u{bits // 8}").data)
        filtered = np.empty((len(rows), 1 + row_bytes), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(rows[:1], above, out=filtered[:1, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1:]
        data.append(packer.compress(filtered.data))
    data.append(packer.flush())
    header = struct.pack(">IIBBBBB", *size, bits, 0, 0, 0, 0)  # grey, no interlacing
    return _PNG_SIGNATURE + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, b"".join(data), b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
