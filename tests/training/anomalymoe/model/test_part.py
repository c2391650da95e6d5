"""The component expert in closed form: connected parts against those of normal pictures."""

from typing import Any, cast

import numpy.typing as npt
import torch
from scipy import ndimage

from training.anomalymoe.model.config import PartConfig
from training.anomalymoe.model.part import PartExpert, part_numbers, smooth

WIDTH, PREFIX, SIDE = 4, 1, 8
VIEWS = (slice(0, WIDTH),)
SQUARES = [(1, 1), (1, 5), (5, 1), (5, 5)]  # upper left corners, 2 x 2 patches each


def masks(count: int, squares: list[tuple[int, int]] = SQUARES) -> torch.Tensor:
    """Component 0 is the background, component 1 the squares."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for y, x in squares:
        inside[y : y + 2, x : x + 2] = True
    return torch.stack([~inside, inside]).expand(count, -1, -1, -1)


def pictures(masks_nMhw: torch.Tensor, seed: int) -> torch.Tensor:
    """Features (n, 1 + 64, 4) of which each component has its own, with a little noise."""
    random = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]])
    patches = kinds[masks_nMhw.flatten(2).int().argmax(1)]
    noise = 0.1 * torch.randn(len(patches), PREFIX + SIDE * SIDE, WIDTH, generator=random)
    noise[:, PREFIX:] += patches
    return noise


def fitted(size: int = 60) -> PartExpert:
    expert = PartExpert(WIDTH, (SIDE, SIDE), PREFIX, PartConfig(size=size, channels=WIDTH))
    expert.fit(pictures(masks(30), seed=1), masks(30), VIEWS)
    return expert


def test_numbers_are_those_of_connected_parts() -> None:
    numbers = part_numbers(masks(1))[0].unflatten(0, (SIDE, SIDE))
    for mask in masks(1)[0]:
        found, count = cast(
            "tuple[npt.NDArray[Any], int]", ndimage.label(mask.numpy(), structure=[[1] * 3] * 3)
        )
        for part in range(1, count + 1):
            assert len(numbers[torch.from_numpy(found == part)].unique()) == 1
    assert len(numbers.unique()) == 5


def test_what_no_mask_covers_is_one_part_without_error() -> None:
    outside = masks(2)[:, 1:]
    numbers = part_numbers(outside).unflatten(1, (SIDE, SIDE))
    assert [len(one[~mask].unique()) for one, mask in zip(numbers, outside[:, 0], strict=True)] == [1, 1]
    error = fitted()(pictures(masks(2), seed=2), outside).error
    assert (error[~outside[:, 0]] == 0).all()
    assert (error[outside[:, 0]] > 0).any()


def described_by(expert: PartExpert, features: torch.Tensor) -> torch.Tensor:
    """What is said of the part of each patch, (n, h, w, V)."""
    numbers = part_numbers(masks(len(features)))
    patches = (features[:, PREFIX:] - expert.mean) @ expert.mixing.T
    parts = expert.parts(patches, numbers)
    rows = torch.searchsorted(parts.number, numbers)
    return parts.described[rows].unflatten(1, (SIDE, SIDE))


def test_ragged_edges_and_single_patches_are_smoothed_and_corners_stay() -> None:
    ragged = masks(1).clone()
    ragged[:, :, 3, 3] = ~ragged[:, :, 3, 3]  # alone in the background
    assert torch.equal(smooth(ragged), masks(1))
    assert not smooth(masks(1)[:, 1:] & False).any()


def test_a_patch_is_described_by_mean_deviation_size_and_place_of_its_part() -> None:
    expert, features = fitted(), pictures(masks(3), seed=2)
    described = described_by(expert, features)
    mixed = ((features[:, PREFIX:] - expert.mean) @ expert.mixing.T).unflatten(1, (SIDE, SIDE))
    part = mixed[:, 1:3, 5:7].flatten(1, 2)
    size_and_place = torch.tensor([4.0, 1.5, 5.5]).expand(3, -1).clone()
    size_and_place[:, 0] = size_and_place[:, 0].log()
    expected = torch.cat([part.mean(1), part.std(1, correction=0), size_and_place], 1)
    for y, x in ((1, 5), (2, 6)):
        torch.testing.assert_close(described[:, y, x], expected, atol=1e-4, rtol=1e-3)


def test_one_wrong_part_among_right_ones_stands_out_and_is_painted_whole() -> None:
    expert, normal = fitted(), pictures(masks(5), seed=3)
    wrong = normal.clone()
    for patch in (PREFIX + 9, PREFIX + 10, PREFIX + 17, PREFIX + 18):
        wrong[:, patch, 2] += 1.5
    error = expert(wrong, masks(5)).error
    limit = expert(normal, masks(5)).error.amax()
    assert (error[:, 1:3, 1:3] > 3 * limit).all()
    assert (error[:, 5:7, 5:7] <= 2 * limit).all()


def test_a_part_in_another_place_is_wrong() -> None:
    moved = masks(5, [(1, 1), (1, 5), (5, 1), (3, 3)])
    expert = fitted()
    limit = expert(pictures(masks(5), seed=3), masks(5)).error.amax()
    assert (expert(pictures(moved, seed=4), moved).error[:, 3:5, 3:5] > 1.5 * limit).all()


def test_two_parts_grown_into_one_are_wrong() -> None:
    grown = masks(5, [*SQUARES, (1, 3)])
    expert = fitted()
    limit = expert(pictures(masks(5), seed=3), masks(5)).error.amax()
    assert (expert(pictures(grown, seed=4), grown).error[:, 1:3, 1:7] > 3 * limit).all()


def test_the_error_is_the_distance_to_the_nearest_remembered_part() -> None:
    expert, features = fitted(), pictures(masks(2), seed=5)
    described = described_by(expert, features).flatten(1, 2) / expert.unit
    nearest = (
        torch.cdist(
            described, expert.memory.rows.expand(2, -1, -1), compute_mode="donot_use_mm_for_euclid_dist"
        )
        .amin(2)
        .square()
    )
    torch.testing.assert_close(expert(features, masks(2)).error.flatten(1), nearest, atol=1e-2, rtol=1e-3)
    assert expert(features, masks(2)).pooled.shape == (2, WIDTH)


def test_the_state_survives_saving() -> None:
    other = PartExpert(WIDTH, (SIDE, SIDE), PREFIX, PartConfig(size=60, channels=WIDTH))
    other.load_state_dict(fitted().state_dict())
    features = pictures(masks(2), seed=6)
    assert torch.equal(other(features, masks(2)).error, fitted()(features, masks(2)).error)
