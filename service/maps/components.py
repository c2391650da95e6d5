"""Connected components of a mask: which there are, and the box, area and peak of the largest."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class Part(NamedTuple):
    """A component: its box, whose `right` and `bottom` are outside, its pixels, and (y, x) of its peak."""

    left: int
    top: int
    right: int
    bottom: int
    area: int
    peak: tuple[int, int]


class Runs(NamedTuple):
    """Runs of pixels in the rows of a mask, in reading order (R,).

    rows: y of each. lefts, rights: x of its first pixel and of the one after its last. parts: which component
    it belongs to, from 0 in reading order.
    """

    rows: Numbers
    lefts: Numbers
    rights: Numbers
    parts: Numbers


def largest_parts(mask: Mask, values: npt.NDArray[np.float32], most: int) -> list[Part]:
    """The largest 8-connected components of a mask (H, W), at most so many, with the peaks of values (H, W).

    Of equal ones, as of equal peaks, the first in reading order is first.
    """
    runs = label(mask)
    if not len(runs.parts):
        return []
    lengths = runs.rights - runs.lefts
    peaks = np.maximum.reduceat(values.ravel().compress(mask.ravel()), lengths.cumsum() - lengths)
    areas = np.bincount(runs.parts, lengths).astype(np.int64)
    largest = np.argsort(-areas, kind="stable")[:most]
    ranks = np.full(len(areas), len(largest), np.uint16)  # which are sorted in one pass each byte
    ranks[largest] = np.arange(len(largest))
    rank = ranks.take(runs.parts)
    ordered = rank.argsort(kind="stable")[: np.count_nonzero(rank < len(largest))]
    rows, lefts, rights, peaks = (each.take(ordered) for each in (*runs[:3], peaks))
    begins = rank.take(ordered).searchsorted(np.arange(len(largest)))
    ends = np.append(begins[1:], len(ordered))
    spans = zip(begins.tolist(), ends.tolist(), strict=True)
    highest = [begin + int(peaks[begin:end].argmax()) for begin, end in spans]
    columns = (
        np.minimum.reduceat(lefts, begins),
        rows[begins],
        np.maximum.reduceat(rights, begins),
        rows[ends - 1] + 1,
        areas[largest],
        *(each[highest] for each in (rows, lefts, rights)),
    )
    parts: list[Part] = []
    for *box_and_area, y, x, x_end in zip(*(column.tolist() for column in columns), strict=True):
        parts.append(Part(*box_and_area, peak=(y, x + int(values[y, x:x_end].argmax()))))
    return parts


def label(mask: Mask) -> Runs:
    """The 8-connected components of a mask (H, W).

    All runs at once: each hangs below the first that it touches in the row above, which makes trees. Of these
    the later hang below the earlier until no two touch.
    """
    stride: int = mask.shape[1] + 1
    padded = np.zeros((len(mask) + 2, stride), np.bool_)  # no run goes on in the next row
    padded[1:-1, 1:] = mask
    is_edge = np.zeros(padded.size, np.bool_)
    np.not_equal(padded.ravel()[1:], padded.ravel()[:-1], out=is_edge[1:])
    edges = np.flatnonzero(is_edge)
    starts, stops = edges[::2], edges[1::2]
    edges_until: Numbers = is_edge.cumsum(dtype=np.int64)
    first = edges_until.take(starts - (stride + 1)) >> 1  # above: so many runs have ended before
    last = (edges_until.take(stops - stride) + 1) >> 1  # so many have begun
    parts = _trees(np.where(first < last, first, np.arange(len(starts))))
    more = np.maximum(last - first - 1, 0)
    below = parts.repeat(more)
    above = parts.take((last - more.cumsum()).repeat(more) + np.arange(len(below)))
    while (apart := below != above).any():
        count = int(parts.max()) + 1
        pairs: Numbers = np.unique((below * count + above)[apart])
        below, above = pairs // count, pairs % count
        parents = np.arange(count)
        parents[np.maximum(below, above)] = np.minimum(below, above)
        trees = _trees(parents)
        parts, below, above = trees.take(parts), trees.take(below), trees.take(above)
    begun = (edges_until[stride - 1 :: stride] + 1) >> 1  # at the end of each row
    rows = np.arange(len(mask)).repeat(np.diff(begun[:-1]))
    begins = (rows + 1) * stride + 1
    return Runs(rows, starts - begins, stops - begins, parts)


def _trees(parents: Numbers) -> Numbers:
    """The tree of each node, numbered in the order of their roots; no parent comes after its child."""
    roots = parents
    while not np.array_equal(roots, higher := roots.take(roots)):
        roots = higher
    return (np.cumsum(roots == np.arange(len(roots))) - 1).take(roots)
