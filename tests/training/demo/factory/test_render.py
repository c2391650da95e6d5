from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from training.demo.factory.registry import PRODUCTS
from training.demo.factory.render import render

SIZE = 128
EVERY_DEFECT = [(name, kind) for name, product in PRODUCTS.items() for kind in product.kinds]


@cache
def pixels(product: str, seed: int, defect: str | None = None) -> np.ndarray:
    return np.asarray(render(product, seed, defect, size=SIZE)[0], np.int16)


@pytest.mark.parametrize("product", PRODUCTS)
def test_one_seed_gives_one_picture(product: str) -> None:
    first, second = (render(product, 5, "structural_crack", size=SIZE) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_good_picture_is_rgb_with_an_empty_mask(product: str) -> None:
    image, mask = render(product, 1, size=SIZE)
    assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
    assert mask.shape == (SIZE, SIZE)
    assert not mask.any()


@pytest.mark.parametrize("product", PRODUCTS)
def test_good_pictures_vary_more_than_the_sensor_noise(product: str) -> None:
    stack = np.stack([pixels(product, seed) for seed in range(6)])
    assert stack.std(axis=0).mean() > 10
    # Not the light alone: with each picture's brightness taken out, they still differ.
    assert (stack - stack.mean(axis=(1, 2), keepdims=True)).std(axis=0).mean() > 7


@pytest.mark.parametrize(("product", "kind"), EVERY_DEFECT)
def test_the_mask_is_where_the_defect_changed_the_picture(product: str, kind: str) -> None:
    image, mask = render(product, 3, kind, size=SIZE)
    difference = np.abs(np.asarray(image, np.int16) - pixels(product, 3)).max(axis=2)
    inside = mask > 0
    assert set(np.unique(mask)) == {0, 255}
    assert 0.0005 < inside.mean() < 0.25
    # Part interiors may look like the ground, and the picture outside may differ by less than is seen.
    assert (difference[inside] > 8).mean() > 0.5
    assert difference[inside].max() > 25
    assert np.quantile(difference[np.logical_not(binary_dilation(inside, iterations=2))], 0.999) <= 10


@pytest.mark.parametrize("product", PRODUCTS)
def test_kinds_draw_from_the_same_good_picture(product: str) -> None:
    _, mask = render(product, 7, "logical_missing", size=SIZE)
    missing, good = pixels(product, 7, "logical_missing"), pixels(product, 7)
    outside = np.logical_not(binary_dilation(mask > 0, iterations=6))
    np.testing.assert_array_equal(missing[outside], good[outside])


def test_an_unknown_defect_is_named() -> None:
    with pytest.raises(ValueError, match="'dent' of board is not one of structural_scratch"):
        render("board", 0, "dent")
