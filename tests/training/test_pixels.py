"""Pixel figures added picture by picture are those of all pixels sorted at once, in bounded memory."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import aupimo, aupro, auroc, average_precision, f1_max
from training.pixels import PixelCounts, joined, share_found

RATES = (0.01, 0.1)


def pictures(count: int = 12, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks and maps of 20 x 20, the first half without a defect; values of both signs, many equal."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(count, 20, 20)).round(2).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    for mask in masks[count // 2 :]:
        row, column = rng.integers(0, 15, 2)
        mask[row : row + 4, column : column + 5] = mask[0, 0] = True
    maps[masks] += 1
    return masks, maps


def counted(masks: NDArray[np.bool_], maps: NDArray[np.float32], most: int = 2**21) -> PixelCounts:
    counts = PixelCounts(most)
    for mask, one in zip(masks, maps, strict=True):
        counts.add(one, mask)
    return counts


def figures(counts: PixelCounts) -> list[float]:
    ranking, regions = counts.ranking(), counts.ranking(by_region=True)
    assert ranking is not None
    assert regions is not None
    return [ranking.area(), ranking.average_precision(), ranking.f1_max(), regions.area(0.3)]


def test_they_are_exact_while_few_values_differ() -> None:
    masks, maps = pictures()
    exact = [metric(masks, maps) for metric in (auroc, average_precision, f1_max, aupro)]
    assert figures(counted(masks, maps)) == pytest.approx(exact, abs=1e-12)
    parts = [counted(masks[rows], maps[rows]) for rows in (slice(5), slice(5, 6), slice(6, None))]
    assert figures(joined(parts)) == pytest.approx(exact, abs=1e-12)


def test_they_stay_near_when_values_are_merged() -> None:
    masks, maps = pictures(400)
    maps += np.random.default_rng(1).normal(size=maps.shape).astype(np.float32)  # all 160 000 differ
    counts = counted(masks, maps, most=4096)
    exact = [metric(masks, maps) for metric in (auroc, average_precision, f1_max, aupro)]
    assert figures(counts) == pytest.approx(exact, abs=1e-3)
    assert len(counts.keys) <= 4096


def test_what_is_held_does_not_grow_with_the_pictures() -> None:
    masks, maps = pictures(400)
    maps += np.random.default_rng(1).normal(size=maps.shape).astype(np.float32)
    counts, held = PixelCounts(2048), []
    for mask, one in zip(masks, maps, strict=True):
        counts.add(one, mask)
        held.append(len(counts.keys) + sum(len(keys) for keys, _ in counts._pending))
    assert max(held) <= 2 * 2048


def test_aupimo_of_each_picture_averages_to_that_of_all() -> None:
    masks, maps = pictures()
    thresholds = counted(masks[:6], maps[:6]).thresholds(RATES)
    shares = [share_found(one, mask, thresholds) for one, mask in zip(maps[6:], masks[6:], strict=True)]
    assert np.mean(shares) == pytest.approx(aupimo(masks, maps, RATES), abs=1e-12)


def test_one_state_alone_has_no_ranking() -> None:
    masks, maps = pictures()
    assert counted(masks[:6], maps[:6]).ranking() is None
    assert PixelCounts().ranking() is None


def test_shapes_must_agree_and_numbers_must_be_numbers() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\), its map \(2, 2\)"):
        PixelCounts().add(np.zeros((2, 2)), np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="NaN"):
        PixelCounts().add(np.full((2, 2), np.nan), np.zeros((2, 2), bool))
