import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.maps.components import Mask, largest_parts

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=9)


def flooded(mask: Mask) -> npt.NDArray[np.int64]:
    """The obvious algorithm: flood from every pixel that has no number yet."""
    labels, count = np.zeros(mask.shape, np.int64), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        count += 1
        front = [start]
        while front:
            y, x = front.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = count
                front += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


def measured(labels: npt.NDArray[np.int64], part: int, values: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Box, area and peak, as in Parts."""
    ys, xs = np.nonzero(labels == part)
    peak = values[ys, xs].argmax()
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    return *box, len(ys), int(ys[peak]), int(xs[peak])


def spiral(side: int) -> Mask:
    mask = np.zeros((side, side), np.bool_)
    y, x, dy, dx = 0, 0, 0, 1
    for length in (length for length in range(side - 1, 0, -2) for _ in range(2)):
        for _ in range(length):
            mask[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    return mask


SIDE = 64
ROWS, COLUMNS = np.indices((SIDE, SIDE))
NOISE = np.random.default_rng(0).random((SIDE, SIDE))
PATTERNS = {
    "all": NOISE < 2,
    "none": NOISE < 0,
    "checkerboard": (ROWS + COLUMNS) % 2 == 0,
    "dots": (ROWS % 2 == 0) & (COLUMNS % 2 == 0),
    "rows": ROWS % 2 == 0,
    "columns": COLUMNS % 2 == 0,
    "diagonals": (ROWS + COLUMNS) % 3 == 0,
    "comb": (COLUMNS % 2 == 0) | (ROWS == SIDE - 1),
    "snake": (ROWS % 2 == 0) | (np.where(ROWS % 4 == 1, SIDE - 1, 0) == COLUMNS),
    "spiral": spiral(SIDE),
    **{f"noise-{share}": share > NOISE for share in (0.1, 0.3, 0.41, 0.5, 0.8)},
}


def agree(mask: Mask, values: npt.NDArray[np.float32], most: int) -> bool:
    """Whether the largest parts are what the obvious algorithm finds."""
    labels = flooded(mask)
    expected = [measured(labels, part, values) for part in range(1, labels.max() + 1)]
    expected.sort(key=lambda part: -part[4])
    return list(zip(*largest_parts(mask, values, most), strict=True)) == expected[:most]


@settings(deadline=None)
@given(arrays(np.float32, SHAPES, elements=st.sampled_from([0.0, 0.5, 1.0])), st.integers(1, 5))
def test_the_largest_parts_are_those_of_a_flood(values: npt.NDArray[np.float32], most: int):
    assert agree(values > 0, values, most)
    assert agree(values > 0, -values, most)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_largest_parts_of_a_pattern_are_those_of_a_flood(pattern: str):
    for turned in (PATTERNS[pattern], PATTERNS[pattern].T, PATTERNS[pattern][::-1]):
        assert agree(turned, NOISE.astype(np.float32), most=100)


def test_touching_corners_connect():
    assert largest_parts(np.eye(3, dtype=np.bool_), np.ones((3, 3), np.float32), 9).areas.tolist() == [3]
    flipped = np.eye(3, dtype=np.bool_)[::-1]
    assert largest_parts(flipped, np.ones((3, 3), np.float32), 9).areas.tolist() == [3]
