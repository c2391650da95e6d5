"""Connected components of a mask: the box, area and peak of the largest."""

from typing import NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class Parts(NamedTuple):
    """Boxes, whose `rights` and `bottoms` are outside, pixels, and peaks of components, each (P,)."""

    lefts: Numbers
    tops: Numbers
    rights: Numbers
    bottoms: Numbers
    areas: Numbers
    peak_rows: Numbers
    peak_columns: Numbers


def largest_parts(mask: Mask, values: npt.NDArray[np.float32], most: int) -> Parts:
    """The largest 8-connected components of a mask (H, W), at most so many, with the peaks of values (H, W).

    Of equal ones, as of equal peaks, the first in reading order is first.
    """
    pixels = mask.astype(np.uint8, order="C")  # given booleans, 4.1.1 joins what does not touch
    labels = cc3d.connected_components(pixels, connectivity=8).ravel()  # in reading order, from 1
    areas = np.bincount(labels)
    areas[0] = 0
    last = min(most, int((areas > 0).sum()))
    if not last:
        return Parts(*np.zeros((7, 0), np.int64))
    large = np.flatnonzero(areas >= np.partition(areas, -last)[-last])
    largest = large[np.argsort(-areas[large], kind="stable")[:last]]
    ranks = np.full(len(areas), last, np.min_scalar_type(last))
    ranks[largest] = np.arange(last)
    rank = ranks.take(labels)
    places = np.flatnonzero(rank < last).astype(np.int32)
    places = places[rank.take(places).argsort(kind="stable")]  # one component after the other
    sizes = areas[largest]
    begins = sizes.cumsum() - sizes
    rows = places // mask.shape[1]
    columns = places - rows * mask.shape[1]
    heights = values.ravel().take(places)
    highest = np.flatnonzero(heights == np.maximum.reduceat(heights, begins).repeat(sizes))
    peaks = highest[highest.searchsorted(begins)]
    lefts, rights = np.minimum.reduceat(columns, begins), np.maximum.reduceat(columns, begins) + 1
    bottoms = rows[begins + sizes - 1] + 1
    return Parts(lefts, rows[begins], rights, bottoms, sizes, rows[peaks], columns[peaks])
