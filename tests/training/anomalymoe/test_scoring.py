"""Scoring: sparse equals dense, and no picture depends on its neighbours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from export.contract.category import Category
from tests.training.tiny_run import DEFECTS, GRID, PRODUCTS, SIZE, draw, tiny_checkpoint
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.component import stack_centres
from training.anomalymoe.model.head import Head, HeadOutput
from training.anomalymoe.scoring import score_pictures


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Two products with different numbers of components."""
    made = tiny_checkpoint()
    disc = made.categories["disc"]
    return replace(made, categories=made.categories | {"disc": replace(disc, centres=disc.centres[:2])})


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Good and defective pictures of both products in turn, uint8 (16, 48, 48, 3)."""
    kinds = (None, *DEFECTS) * 2
    drawn = [draw(product, seed, kind)[0] for seed, kind in enumerate(kinds) for product in PRODUCTS]
    return torch.from_numpy(np.stack(drawn))


@pytest.fixture(scope="module")
def categories(checkpoint: Checkpoint, pixels: Tensor) -> list[Category]:
    return [checkpoint.categories[product] for product in PRODUCTS] * (len(pixels) // 2)


def scored(
    checkpoint: Checkpoint, pixels: Tensor, categories: Sequence[Category], dense: bool = False
) -> HeadOutput:
    return score_pictures(checkpoint.detector, Head((SIZE, SIZE), GRID), pixels, categories, dense=dense)


def test_sparse_equals_dense(checkpoint: Checkpoint, pixels: Tensor, categories: list[Category]) -> None:
    chosen = checkpoint.detector.router(
        checkpoint.detector.encode(checkpoint.detector.normalise(pixels)).cls
    ).experts
    assert len(chosen.unique()) > 3, "all pictures chose the same experts, so that nothing is compared"
    sparse = scored(checkpoint, pixels, categories)
    dense = scored(checkpoint, pixels, categories, dense=True)
    for one, other in zip(sparse, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_picture_scores_the_same_alone_and_in_a_batch(
    checkpoint: Checkpoint, pixels: Tensor, categories: list[Category]
) -> None:
    together = scored(checkpoint, pixels, categories)
    for row in range(len(pixels)):
        alone = scored(checkpoint, pixels[row : row + 1], categories[row : row + 1])
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[row], rtol=1e-4, atol=1e-4)


def test_the_order_of_a_batch_does_not_matter(
    checkpoint: Checkpoint, pixels: Tensor, categories: list[Category]
) -> None:
    order = np.random.default_rng(0).permutation(len(pixels)).tolist()
    shuffled = scored(checkpoint, pixels[order], [categories[row] for row in order])
    for one, other in zip(shuffled, scored(checkpoint, pixels, categories), strict=True):
        torch.testing.assert_close(one, other[order], rtol=1e-4, atol=1e-4)


def test_scores_come_in_the_shape_of_pictures_levels_and_maps(
    checkpoint: Checkpoint, pixels: Tensor, categories: list[Category]
) -> None:
    result = scored(checkpoint, pixels, categories)
    assert result.map.shape == (16, SIZE, SIZE)
    assert result.score.shape == (16,)
    assert result.level_scores.shape == (16, 3)
    assert (result.score > 0).all()
    assert not result.score.requires_grad


def test_each_picture_is_calibrated_by_its_own_category(
    checkpoint: Checkpoint, pixels: Tensor, categories: list[Category]
) -> None:
    coarse = [replace(one, error_scale=one.error_scale * 4) for one in categories[::2]]
    mixed = [one for pair in zip(coarse, categories[1::2], strict=True) for one in pair]
    plain, changed = scored(checkpoint, pixels, categories).score, scored(checkpoint, pixels, mixed).score
    torch.testing.assert_close(changed[::2], plain[::2] / 4)
    torch.testing.assert_close(changed[1::2], plain[1::2])


def test_products_with_fewer_components_are_padded() -> None:
    few, many = np.ones((2, 4), np.float32), np.full((3, 4), 2, np.float32)
    values, valid = stack_centres([few, many])
    assert values.shape == (2, 3, 4)
    assert valid.tolist() == [[True, True, False], [True, True, True]]
    assert values[:, :, 0].tolist() == [[1, 1, 0], [2, 2, 2]]
