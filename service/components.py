"""Connected components of a mask."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


def label(mask: Mask) -> tuple[Numbers, int]:
    """Number the 8-connected parts of a mask (H, W) from 1 in reading order, 0 outside; also their count.

    Union-find on all pairs of neighbours at once: hook the higher root below the lower, then flatten.
    """
    padded = np.pad(mask, 1)
    pixels = np.flatnonzero(padded)
    first, second = _neighbours(pixels, padded.shape[1], padded.size)
    roots = np.arange(len(pixels))
    while (apart := roots[first] != roots[second]).any():
        one, other = roots[first[apart]], roots[second[apart]]
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while (roots != roots[roots]).any():
            roots = roots[roots]
    unique, inverse = np.unique(roots, return_inverse=True)
    labels = np.zeros(padded.shape, np.int64)
    labels.ravel()[pixels] = inverse + 1
    return labels[1:-1, 1:-1], len(unique)


def _neighbours(pixels: Numbers, width: int, size: int) -> tuple[Numbers, Numbers]:
    """Pairs of positions in `pixels` (flat indices, none at the border) that touch."""
    position = np.full(size, -1, np.int64)
    position[pixels] = np.arange(len(pixels))
    right_and_below = pixels[:, None] + np.array([1, width - 1, width, width + 1])
    touched = position[right_and_below]
    first, _ = np.nonzero(touched >= 0)
    return first, touched[touched >= 0]
