"""The closed-form global expert: what normal pictures span is no error, what they do not is."""

import torch

from training.anomalymoe.config import SubspaceConfig
from training.anomalymoe.subspace import SubspaceExpert

WIDTH, GRID, PREFIX = 6, (4, 4), 1


def pictures(count: int, seed: int) -> torch.Tensor:
    """Features (n, 1 + 16, 6) of pictures that differ by two hidden numbers and a little noise."""
    random = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 1 + 16, WIDTH, generator=fixed)
    hidden = torch.randn(count, 2, generator=random)
    noise = 0.05 * torch.randn(count, 1 + 16, WIDTH, generator=random)
    return patterns[2] + torch.einsum("nk,ktd->ntd", hidden, patterns[:2]) + noise


def fitted() -> SubspaceExpert:
    expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=6, code=2))
    expert.fit(pictures(60, seed=1))
    return expert


def test_unseen_normal_pictures_have_an_error_about_one_and_a_changed_patch_stands_out() -> None:
    expert, normal = fitted(), pictures(20, seed=2)
    assert 0.3 < float(expert(normal).error.mean()) < 1.5
    changed = normal.clone()
    changed[:, PREFIX + 5] += 1.0
    error = expert(changed).error.flatten(1)
    assert (error.argmax(1) == 5).all()
    assert (error[:, 5] > 20).all()


def test_a_picture_counts_by_its_place_not_only_by_its_patches() -> None:
    """The same patches in another order are wrong, as parts in each other's place are."""
    expert, normal = fitted(), pictures(20, seed=3)
    swapped = normal.clone()
    swapped[:, [PREFIX + 2, PREFIX + 9]] = normal[:, [PREFIX + 9, PREFIX + 2]]
    assert (expert(swapped).loss > 5 * expert(normal).loss).all()


def test_shapes_and_a_state_that_survives_saving() -> None:
    expert = fitted()
    other = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=6, code=2))
    other.load_state_dict(expert.state_dict())
    output = other(pictures(3, seed=4))
    assert output.error.shape == (3, *GRID)
    assert output.loss.shape == (3,)
    assert output.pooled.shape == (3, WIDTH)
    torch.testing.assert_close(output.error, expert(pictures(3, seed=4)).error)


def test_fewer_pictures_than_components_leave_the_rest_empty() -> None:
    expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=4, code=10))
    expert.fit(pictures(6, seed=5))
    assert expert(pictures(2, seed=6)).error.isfinite().all()
    assert not expert.basis[4:].any()
