"""How far normal pictures look from each other tells what does not look like them."""

import numpy as np

from export.contract.appearance import STATISTICS, FloatArray
from training.reach import FOLDS, folds, margin, visual_reach


def looks(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(3, 0.1, (count, STATISTICS)).astype(np.float32)


def test_each_picture_is_in_one_fold_and_not_among_its_others() -> None:
    for count in (2, 4, 23):
        parts = list(folds(count))
        assert len(parts) == min(count, FOLDS)
        assert (np.sum([inside for inside, _ in parts], 0) == 1).all()
        assert all((inside != others).all() for inside, others in parts)
    ((inside, others),) = folds(1)
    assert inside.all()
    assert others.all()


def test_no_picture_is_as_far_as_1_and_what_looks_otherwise_is_further() -> None:
    for count in (1, 2, 5, 60):
        whitening, distances = visual_reach(looks(count))
        assert distances.max(initial=0) < 1
        assert whitening.distance(looks(1, seed=1) + 1).item() > 1
    assert whitening.distance(looks(40, seed=2)).max() < 1


def test_pictures_that_are_the_same_reach_a_little() -> None:
    same = np.repeat(looks(1), 9, axis=0)
    whitening, distances = visual_reach(same)
    assert distances.max() < 1e-3
    assert whitening.distance(same[0] + np.float32(0.01)) < 1 < whitening.distance(same[0] + np.float32(0.1))


def test_few_pictures_hardly_show_how_far_others_may_be() -> None:
    assert margin(2) > margin(10) > margin(1000) > 1
