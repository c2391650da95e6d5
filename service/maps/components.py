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
    labels, count = cc3d.connected_components(pixels, connectivity=8, return_N=True)
    if not count:
        return Parts(*np.zeros((7, 0), np.int64))
    measured = cc3d.statistics(labels, no_slice_conversion=True)
    areas = measured["voxel_counts"][1:].astype(np.int64)
    order = (areas.max() - areas) * count + np.arange(count)
    last = min(most, count) - 1
    largest = 1 + np.sort(np.partition(order, last)[: last + 1]) % count
    boxes = measured["bounding_boxes"].astype(np.int64).take(largest, axis=0)
    tops, bottoms, lefts, rights = (boxes[:, side] for side in range(4))
    rows, columns = np.divmod(_peaks(labels.ravel(), values.ravel(), count)[largest], mask.shape[1])
    return Parts(lefts, tops, rights + 1, bottoms + 1, areas[largest - 1], rows, columns)


def _peaks(labels: npt.NDArray[np.unsignedinteger], values: npt.NDArray[np.float32], count: int) -> Numbers:
    """Where each label, 1 to count, has its highest value first: (count + 1,), of no meaning for 0."""
    highest = np.full(count + 1, -np.inf, np.float32)
    np.maximum.at(highest, labels, values)
    highest[0] = np.nan  # equal to nothing
    backwards = np.flatnonzero(values == highest.take(labels))[::-1]
    places = np.zeros(count + 1, np.int64)
    places[labels.take(backwards)] = backwards  # the last that is set stays
    return places
