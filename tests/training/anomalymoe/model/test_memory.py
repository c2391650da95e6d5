"""The patch expert in closed form: a patch like remembered ones is no error, another one is."""

import torch
from torch.nn import functional as F

from training.anomalymoe.model.config import MemoryConfig
from training.anomalymoe.model.memory import MemoryExpert, cover

WIDTH, GRID, PREFIX = 6, (4, 5), 1
VIEWS = (slice(0, 2), slice(2, 6))


def pictures(count: int, seed: int) -> torch.Tensor:
    """Features (n, 1 + 20, 6): columns of two kinds of patches, with a little noise."""
    random = torch.Generator().manual_seed(seed)
    kinds = 3 * torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    patches = kinds[torch.arange(20) % 5 // 3]
    noise = 0.1 * torch.randn(count, PREFIX + 20, WIDTH, generator=random)
    return F.pad(patches, (0, 0, PREFIX, 0)) + noise


def fitted(size: int = 50, channels: int = WIDTH) -> MemoryExpert:
    expert = MemoryExpert(WIDTH, GRID, PREFIX, MemoryConfig(size=size, channels=channels))
    expert.fit(pictures(20, seed=1), VIEWS)
    return expert


def test_the_error_is_the_distance_to_the_nearest_remembered_patch() -> None:
    expert, features = fitted(channels=4), pictures(3, seed=2)
    patches = (features[:, PREFIX:] - expert.mean) @ expert.mixing.T
    for picture, error in zip(patches.unflatten(1, GRID), expert(features).error, strict=True):
        for y in range(GRID[0]):
            for x in range(GRID[1]):
                around = picture[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(0, 1).mean(0)
                nearest = (expert.memory.rows - around).square().sum(1).min()
                torch.testing.assert_close(error[y, x], nearest, atol=1e-4, rtol=1e-3)


def test_a_patch_that_was_never_seen_stands_out_wherever_it_is() -> None:
    expert, normal = fitted(), pictures(4, seed=3)
    damaged = normal.clone()
    damaged[:, PREFIX + 7] += 2.0
    assert (expert(damaged).error.flatten(1).amax(1) > 10 * expert(normal).error.amax()).all()
    shown = expert(damaged).error > 10 * expert(normal).error.amax()
    assert shown[:, :3, 1:4].any((1, 2)).all()
    assert not shown[:, 3].any()


def test_what_is_remembered_has_no_error() -> None:
    features = pictures(20, seed=1)
    assert float(fitted(size=400)(features).error.max()) < 1e-4


def test_fewer_patches_than_places_fill_the_memory() -> None:
    expert = MemoryExpert(WIDTH, GRID, PREFIX, MemoryConfig(size=100, channels=10))
    expert.fit(pictures(1, seed=1), VIEWS)
    assert len(expert.memory.rows.unique(dim=0)) <= 20
    assert float(expert(pictures(1, seed=1)).error.max()) < 1e-4
    assert expert(pictures(2, seed=5)).error.isfinite().all()


def test_the_rows_kept_are_far_from_each_other() -> None:
    """Three clusters, one of which has nearly all rows: each is remembered."""
    random = torch.Generator().manual_seed(0)
    points = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    rows = points[[0] * 98 + [1, 2]] + 0.01 * torch.randn(100, 2, generator=random)
    kept = cover(rows, 3)
    assert sorted(torch.cdist(kept, points).argmin(1).tolist()) == [0, 1, 2]


def test_a_picture_alone_and_in_a_batch_has_the_same_error() -> None:
    expert, features = fitted(), pictures(5, seed=4)
    assert expert(features).pooled.shape == (5, WIDTH)
    torch.testing.assert_close(expert(features[2:3]).error, expert(features).error[2:3])


def test_the_state_survives_saving() -> None:
    other = MemoryExpert(WIDTH, GRID, PREFIX, MemoryConfig(size=50, channels=WIDTH))
    other.load_state_dict(fitted().state_dict())
    features = pictures(2, seed=6)
    assert torch.equal(other(features).error, fitted()(features).error)
