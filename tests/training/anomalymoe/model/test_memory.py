"""What is remembered is no error, and covers what there is."""

import torch

from training.anomalymoe.model.part import Memory, cover


def filled(rows: torch.Tensor, size: int) -> Memory:
    memory = Memory(size, rows.shape[1])
    memory.fit(rows)
    return memory


def rows(count: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_that_to_the_nearest_row() -> None:
    memory, other = filled(rows(100, seed=1), 20), rows(30, seed=2)
    nearest = torch.cdist(other, memory.rows).amin(1).square()
    torch.testing.assert_close(memory(other), nearest, atol=1e-4, rtol=1e-3)


def test_what_is_remembered_has_no_error() -> None:
    assert float(filled(rows(50, seed=1), 50)(rows(50, seed=1)).max()) < 1e-3


def test_fewer_rows_than_places_fill_the_memory() -> None:
    memory = filled(rows(5, seed=1), 12)
    assert len(memory.rows.unique(dim=0)) == 5
    assert memory(rows(3, seed=2)).isfinite().all()


def test_the_rows_kept_are_far_from_each_other() -> None:
    """Three clusters, one of which has nearly all rows: each is remembered."""
    random = torch.Generator().manual_seed(0)
    points = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    spread = points[[0] * 98 + [1, 2]] + 0.01 * torch.randn(100, 2, generator=random)
    assert sorted(torch.cdist(cover(spread, 3), points).argmin(1).tolist()) == [0, 1, 2]
