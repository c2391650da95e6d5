import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.components import Mask, label


def flooded(mask: Mask) -> np.ndarray:
    """The obvious algorithm: flood from every pixel that has no number yet."""
    labels, count = np.zeros(mask.shape, int), 0
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


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_labels_are_those_of_a_flood(mask: Mask):
    pixels, parts = label(mask)
    labels = np.zeros(mask.shape, int)
    labels.ravel()[pixels] = parts + 1
    np.testing.assert_array_equal(labels, flooded(mask))


def test_a_long_snake_is_one_part():
    mask = np.zeros((101, 60), np.bool_)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    assert not label(mask)[1].any()


def test_touching_corners_connect():
    assert not label(np.eye(3, dtype=np.bool_))[1].any()
    assert not label(np.eye(3, dtype=np.bool_)[::-1])[1].any()
