"""Anomaly maps as files, and the anomalous regions in them.

The raw map (Hm, Wm) covers the part of the picture that the model saw; whatever was cropped away is 0.
Sizes are (width, height), as Pillow's; arrays are (height, width), as numpy's.
"""

import io
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.contract.category import FloatArray
from export.contract.decision import display_score
from export.contract.manifest import LEVELS, InputSpec
from export.contract.preprocess import visible_box
from service.components import Mask, Numbers, label
from service.findings import Region

Box = tuple[float, float, float, float]
Shares = npt.NDArray[np.float64]
MapEncoding = Literal["png", "png16", "overlay", "npy"]

MAX_REGIONS = 100

# Dark violet, purple, red, orange, pale yellow: brightness rises evenly, so the ramp also reads in grey.
_RAMP = ((13, 8, 60), (120, 28, 109), (213, 62, 60), (250, 158, 40), (252, 255, 164))
_OUTLINE = (255, 255, 255)
_HIGHEST_OPACITY = 0.7


def place(raw_map: FloatArray, size: tuple[int, int], spec: InputSpec) -> FloatArray:
    """Resize the raw map bilinearly into a picture of `size`: (height, width), 0 where nobody looked."""
    left, top, right, bottom = visible_box(size, spec)
    x, y = math.floor(left), math.floor(top)
    resized = _resize(raw_map, (math.ceil(right) - x, math.ceil(bottom) - y))
    placed = np.zeros((size[1], size[0]), np.float32)
    placed[y : y + resized.shape[0], x : x + resized.shape[1]] = resized
    return placed


def encode_map(
    raw_map: FloatArray, threshold: float, encoding: MapEncoding, picture: Image.Image | None = None
) -> bytes:
    """Write a raw map (height, width) as a file.

    npy: display scores as float32. png, png16: 8 or 16 bit grey, above 127 or 32767 exactly where the raw
    map is above the threshold. overlay: an RGB png, the picture resized to the map under the coloured map.
    Raises ValueError when an overlay has no picture.
    """
    if encoding == "npy":
        file = io.BytesIO()
        np.save(file, display_score(raw_map, threshold))
        return file.getvalue()
    if encoding == "png16":
        return _png(Image.fromarray(_quantised(raw_map, threshold, 65535).astype(np.uint16)))
    grey = Image.fromarray(_quantised(raw_map, threshold, 255).astype(np.uint8))
    if encoding == "png":
        return _png(grey)
    if picture is None:
        raise ValueError("picture: an overlay needs one, got None")
    return _png(_overlay(picture, grey, _edge(raw_map > threshold)))


def find_regions(
    raw_map: FloatArray, level_maps: FloatArray, threshold: float, size: tuple[int, int], spec: InputSpec
) -> list[Region]:
    """The 8-connected parts above the threshold, largest first, at most MAX_REGIONS.

    raw_map (Hm, Wm), level_maps (3, h, w) in the order of LEVELS, size of the uploaded picture.
    """
    pixels, parts = label(raw_map > threshold)
    largest: list[int] = np.argsort(-np.bincount(parts), kind="stable")[:MAX_REGIONS].tolist()
    box = visible_box(size, spec)
    return [_region(pixels[parts == part], raw_map, level_maps, threshold, box) for part in largest]


def _region(
    pixels: Numbers, raw_map: FloatArray, level_maps: FloatArray, threshold: float, box: Box
) -> Region:
    left, top, right, bottom = box
    height, width = raw_map.shape
    ys, xs = np.divmod(pixels, width)
    x, x_end = _stretch(int(xs.min()), int(xs.max()) + 1, left, (right - left) / width)
    y, y_end = _stretch(int(ys.min()), int(ys.max()) + 1, top, (bottom - top) / height)
    peak = int(raw_map[ys, xs].argmax())
    levels = _at(level_maps, int(ys[peak]), int(xs[peak]), raw_map.shape)
    return Region(
        x=x,
        y=y,
        width=x_end - x,
        height=y_end - y,
        area=max(1, round(len(xs) * (right - left) * (bottom - top) / (width * height))),
        peak=display_score(float(raw_map[ys[peak], xs[peak]]), threshold),
        level=LEVELS[int(levels.argmax())],
    )


def _at(maps: FloatArray, y: int, x: int, shape: tuple[int, ...]) -> Shares:
    """Maps (n, h, w) at one pixel of `shape` (height, width), bilinearly: (n,)."""
    height, width = shape
    return _shares(y, height, maps.shape[1]) @ maps @ _shares(x, width, maps.shape[2])


def _shares(pixel: int, pixels: int, cells: int) -> Shares:
    """What each of a row of cells counts (cells,) at one of the pixels that it is resized to."""
    place = min(max((pixel + 0.5) * cells / pixels - 0.5, 0), cells - 1)
    return np.maximum(1 - np.abs(np.arange(cells) - place), 0)


def _stretch(start: int, stop: int, offset: float, scale: float) -> tuple[int, int]:
    """The whole pixels that map cells start..stop touch; rounding noise does not count as touching."""
    return math.floor(offset + start * scale + 1e-6), math.ceil(offset + stop * scale - 1e-6)


def _resize(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bilinear resize of one map to `size`, antialiased when it shrinks."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR), np.float32)


def _quantised(raw_map: FloatArray, threshold: float, highest: int) -> FloatArray:
    """Display scores as integers 0..highest; which half a pixel is in is decided by the raw threshold."""
    half = highest // 2
    rounded = np.rint(display_score(raw_map, threshold) * highest)
    return np.where(raw_map > threshold, np.maximum(rounded, half + 1), np.minimum(rounded, half))


def _overlay(picture: Image.Image, grey: Image.Image, edge: Mask) -> Image.Image:
    base = picture.convert("RGB").resize(grey.size)
    heat = grey.copy()
    heat.putpalette(_palette())
    opacity = grey.point([round(value * _HIGHEST_OPACITY) for value in range(256)])
    blended = Image.composite(heat.convert("RGB"), base, opacity)
    blended.paste(_OUTLINE, mask=Image.fromarray(edge))
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
