"""Connected components of a mask: which there are, and the box, area and peak of the largest."""

from typing import NamedTuple

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


class Runs(NamedTuple):
    """Runs of pixels in the rows of a mask, in reading order (R,).

    rows: y of each. lefts, rights: x of its first pixel and of the one after its last. parts: which component
    it belongs to, from 0 in reading order.
    """

    rows: Numbers
    lefts: Numbers
    rights: Numbers
    parts: Numbers


def largest_parts(mask: Mask, values: npt.NDArray[np.float32], most: int) -> Parts:
    """The largest 8-connected components of a mask (H, W), at most so many, with the peaks of values (H, W).

    Of equal ones, as of equal peaks, the first in reading order is first.
    """
    runs = label(mask)
    if not len(runs.parts):
        return Parts(*np.zeros((7, 0), np.int64))
    lengths = runs.rights - runs.lefts
    peaks = np.maximum.reduceat(values.ravel().compress(mask.ravel()), lengths.cumsum() - lengths)
    areas = np.bincount(runs.parts, lengths).astype(np.int64)
    last = min(most, len(areas))
    large = np.flatnonzero(areas >= np.partition(areas, -last)[-last])
    largest = large.take(np.argsort(-areas.take(large), kind="stable")[:most])
    ranks = np.full(len(areas), last, np.uint16)  # which are sorted in one pass each byte
    ranks[largest] = np.arange(last)
    rank = ranks.take(runs.parts)
    chosen = np.flatnonzero(rank < last)
    ordered = chosen.take(rank.take(chosen).argsort(kind="stable"))
    rows, lefts, rights, peaks = (each.take(ordered) for each in (*runs[:3], peaks))
    begins = rank.take(ordered).searchsorted(np.arange(len(largest)))
    ends = np.append(begins[1:], len(ordered))
    highest = np.flatnonzero(peaks == np.maximum.reduceat(peaks, begins).repeat(ends - begins))
    highest = highest.take(highest.searchsorted(begins))
    peak_rows, starts, stops = (each.take(highest) for each in (rows, lefts, rights))
    columns = np.minimum(starts[:, None] + np.arange(np.max(stops - starts)), stops[:, None] - 1)
    return Parts(
        np.minimum.reduceat(lefts, begins),
        rows[begins],
        np.maximum.reduceat(rights, begins),
        rows[ends - 1] + 1,
        areas[largest],
        peak_rows,
        starts + values[peak_rows[:, None], columns].argmax(axis=1),
    )


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
        below, above = below[apart], above[apart]
        parents = np.arange(int(parts.max()) + 1)
        np.minimum.at(parents, np.maximum(below, above), np.minimum(below, above))
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
