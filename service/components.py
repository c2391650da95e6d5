"""Connected components of a mask."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


def label(mask: Mask) -> tuple[Numbers, Numbers]:
    """The 8-connected parts of a mask (H, W): its pixels (N,) as flat indices, and the part of each (N,).

    Both in reading order, parts from 0. Union-find on all pairs of neighbours at once: hook the higher root
    below the lower, then flatten.
    """
    height, width = mask.shape
    ys, xs = np.divmod(pixels := np.flatnonzero(mask), width)
    padded_width = width + 2
    first, second = _neighbours((ys + 1) * padded_width + xs + 1, padded_width, (height + 2) * padded_width)
    roots = np.arange(len(pixels))
    while (apart := roots[first] != roots[second]).any():
        one, other = roots[first[apart]], roots[second[apart]]
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while (roots != roots[roots]).any():
            roots = roots[roots]
    return pixels, np.unique(roots, return_inverse=True)[1]


def _neighbours(pixels: Numbers, width: int, size: int) -> tuple[Numbers, Numbers]:
    """Pairs of positions in `pixels` (flat indices, none at the border) that touch."""
    position = np.full(size, -1, np.int64)
    position[pixels] = np.arange(len(pixels))
    right_and_below = pixels[:, None] + np.array([1, width - 1, width, width + 1])
    touched = position[right_and_below]
    first, _ = np.nonzero(touched >= 0)
    return first, touched[touched >= 0]
