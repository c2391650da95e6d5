"""Connected regions above the threshold, in pixels of the picture."""

import numpy as np
import numpy.typing as npt

from export.contract.category import FloatArray
from export.contract.decision import display_score
from export.contract.manifest import LEVELS, InputSpec
from export.contract.preprocess import visible_box
from service.maps.components import Numbers, largest_parts
from service.maps.placement import Place, place_in_picture
from service.maps.resize import stretched
from service.schemas.findings import Region

Shares = npt.NDArray[np.float64]


MAX_REGIONS = 100


def find_regions(
    raw_map: FloatArray, level_maps: FloatArray, threshold: float, size: tuple[int, int], spec: InputSpec
) -> list[Region]:
    """The 8-connected parts above the threshold, largest first, at most MAX_REGIONS.

    raw_map (Hm, Wm), level_maps (3, h, w) in the order of LEVELS, size of the uploaded picture. Of a picture
    that is smaller than the map they are the parts of what is drawn.
    """
    raw_map = _shrunk(raw_map, place_in_picture(size, spec))
    parts = largest_parts(raw_map > threshold, raw_map, MAX_REGIONS)
    if not parts.areas.size:
        return []
    ys, xs = parts.peak_rows, parts.peak_columns
    levels: list[int] = _at(level_maps, ys, xs, raw_map.shape).argmax(axis=0).tolist()
    left, top, right, bottom = visible_box(size, spec)
    height, width = raw_map.shape
    x, x_end = _stretch(parts.lefts, parts.rights, left, (right - left) / width)
    y, y_end = _stretch(parts.tops, parts.bottoms, top, (bottom - top) / height)
    areas = np.rint(parts.areas * (right - left) * (bottom - top) / (width * height)).astype(np.int64)
    measures = np.stack((x, y, x_end - x, y_end - y, np.maximum(areas, 1)), axis=1)
    return [
        Region(x, y, across, down, area, display_score(peak, threshold), LEVELS[level])
        for (x, y, across, down, area), peak, level in zip(
            measures.tolist(), raw_map[ys, xs].tolist(), levels, strict=True
        )
    ]


def _at(maps: FloatArray, ys: Numbers, xs: Numbers, shape: tuple[int, ...]) -> Shares:
    """Maps (n, h, w) at pixels (p,) of `shape` (height, width), bilinearly: (n, p)."""
    rows = _shares(ys, shape[0], maps.shape[1]) @ maps
    return (rows * _shares(xs, shape[1], maps.shape[2])).sum(axis=-1)


def _shares(pixels: Numbers, length: int, cells: int) -> Shares:
    """What each of a row of cells counts at pixels (p,) of the `length` that it is resized to: (p, cells)."""
    places = ((pixels + 0.5) * cells / length - 0.5).clip(0, cells - 1)
    return np.maximum(1 - np.abs(np.arange(cells) - places[:, None]), 0)


def _stretch(starts: Numbers, stops: Numbers, offset: float, scale: float) -> tuple[Numbers, Numbers]:
    """The whole pixels that map cells start..stop touch; rounding noise does not count as touching."""
    first, last = np.floor(offset + starts * scale + 1e-6), np.ceil(offset + stops * scale - 1e-6)
    return first.astype(np.int64), last.astype(np.int64)


def _shrunk(raw_map: FloatArray, place: Place) -> FloatArray:
    """A map with no more rows and columns than its place."""
    rows, columns = np.minimum(raw_map.shape, (place.height, place.width)).tolist()
    if raw_map.shape == (rows, columns):
        return raw_map
    return np.concatenate(list(stretched(raw_map, columns, rows)))
