"""Random masks: range, size, repeatability and the sizes they promise."""

from collections.abc import Callable

import numpy as np
import pytest

from training.backbones.offline import shapes
from training.backbones.offline.shapes import SHAPES, Mask, Size, draw_shape, line, rectangle, smooth_noise

Shape = Callable[[np.random.Generator, Size], Mask]

SIZE = (40, 56)
SEEDS = range(25)

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)


def drawn(shape: Shape) -> list[Mask]:
    return [shape(np.random.default_rng(seed), SIZE) for seed in SEEDS]


@each_shape
def test_masks_have_the_size_and_stay_between_0_and_1(shape: Shape) -> None:
    for mask in drawn(shape):
        assert mask.shape == SIZE
        assert mask.dtype == np.float32
        assert mask.min() >= 0
        assert mask.max() <= 1


@each_shape
def test_most_masks_mark_something_and_none_marks_everything(shape: Shape) -> None:
    marked = [(mask > 0.5).mean() for mask in drawn(shape)]
    assert sum(share > 0 for share in marked) > 0.7 * len(marked)
    assert max(marked) < 0.7


@each_shape
def test_the_same_seed_draws_the_same_mask(shape: Shape) -> None:
    first, second = drawn(shape), drawn(shape)
    np.testing.assert_array_equal(first, second)
    assert any((one != first[0]).any() for one in first[1:])


def test_draw_shape_uses_the_shapes_as_often_as_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(SHAPES.values()) == pytest.approx(1)
    table = {lambda _rng, size: np.zeros(size): 0.2, lambda _rng, size: np.ones(size): 0.8}
    monkeypatch.setattr(shapes, "SHAPES", table)
    rng = np.random.default_rng(0)
    ones = sum(draw_shape(rng, (1, 1)).item() for _ in range(500))
    assert ones / 500 == pytest.approx(0.8, abs=0.06)


def test_a_rectangle_covers_at_most_a_tenth() -> None:
    for mask in drawn(rectangle):
        assert set(np.unique(mask)) == {0, 1}
        assert 4 <= mask.sum() <= 0.1 * mask.size


def test_a_line_is_thin() -> None:
    for mask in drawn(line):
        assert mask.mean() < 0.15


def test_few_cells_make_smoother_noise_than_many() -> None:
    def roughness(cells: int) -> float:
        noise = smooth_noise(np.random.default_rng(1), (64, 64), cells)
        return float(np.abs(np.diff(noise)).mean() / noise.std())

    assert roughness(4) < 0.5 * roughness(32)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (31, 9)])
@pytest.mark.parametrize("cells", [2, 8, 64])
def test_smooth_noise_fits_any_size(size: Size, cells: int) -> None:
    assert smooth_noise(np.random.default_rng(0), size, cells).shape == size
