"""The closed-form global expert: what normal pictures span is no error, what they do not is."""

import torch

from training.anomalymoe.model.config import SubspaceConfig
from training.anomalymoe.model.subspace import SubspaceExpert

WIDTH, GRID, PREFIX = 6, (4, 4), 1
WHOLE = (slice(0, WIDTH),)


def pictures(count: int, seed: int) -> torch.Tensor:
    """Features (n, 1 + 16, 6) of pictures that differ by two hidden numbers and a little noise."""
    random = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 1 + 16, WIDTH, generator=fixed)
    hidden = torch.randn(count, 2, generator=random)
    noise = 0.1 * torch.randn(count, 1 + 16, WIDTH, generator=random)
    return patterns[2] + torch.einsum("nk,ktd->ntd", hidden, patterns[:2]) + noise


def changed(normal: torch.Tensor, channels: slice = WHOLE[0]) -> torch.Tensor:
    """The same pictures, one patch of which is other than it should be."""
    damaged = normal.clone()
    damaged[:, PREFIX + 5, channels] += 1.0
    return damaged


def fitted(channels: int = WIDTH, code: int = 2) -> SubspaceExpert:
    expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=channels, code=code))
    unseen = pictures(30, seed=7)
    expert.fit(pictures(60, seed=1), unseen, changed(unseen), WHOLE)
    return expert


def test_unseen_normal_pictures_have_an_error_below_one_and_a_changed_patch_stands_out() -> None:
    expert, normal = fitted(), pictures(20, seed=2)
    # The noise has a floor as large as its mean, so half the error is to be expected.
    assert 0.3 < float(expert(normal).error.mean()) < 0.7
    error = expert(changed(normal)).error.flatten(1)
    assert (error.argmax(1) == 5).all()
    assert (error[:, 5] > 20).all()


def test_a_picture_counts_by_its_place_not_only_by_its_patches() -> None:
    """The same patches in another order are wrong, as parts in each other's place are."""
    expert, normal = fitted(), pictures(20, seed=3)
    swapped = normal.clone()
    swapped[:, [PREFIX + 2, PREFIX + 9]] = normal[:, [PREFIX + 9, PREFIX + 2]]
    assert (expert(swapped).loss > 5 * expert(normal).loss).all()


def test_the_view_that_shows_defects_is_chosen() -> None:
    """Defects that only the last two channels show, among views of which either could come first."""
    views = (slice(0, 4), slice(4, 6))
    for order in (views, views[::-1]):
        expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=4, code=2))
        unseen = pictures(30, seed=7)
        expert.fit(pictures(60, seed=1), unseen, changed(unseen, views[1]), order)
        assert not expert.mixing[:, :4].any()
        assert torch.equal(expert.mixing[:2, 4:], torch.eye(2))
        normal = pictures(5, seed=8)
        assert (expert(changed(normal, views[1])).loss > expert(normal).loss).all()
        torch.testing.assert_close(expert(changed(normal, views[0])).error, expert(normal).error)


def test_a_view_wider_than_the_channels_is_reduced_to_its_principal_axes() -> None:
    expert = fitted(channels=3)
    torch.testing.assert_close(expert.mixing @ expert.mixing.T, torch.eye(3))
    patches = pictures(60, seed=1)[:, PREFIX:].flatten(0, 1)
    kept = (patches @ expert.mixing.T).var(0)
    assert (kept[:-1] >= kept[1:]).all()
    assert kept.sum() > 0.5 * patches.var(0).sum()


def test_shapes_and_a_state_that_survives_saving() -> None:
    expert = fitted()
    other = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=WIDTH, code=2))
    other.load_state_dict(expert.state_dict())
    output = other(pictures(3, seed=4))
    assert output.error.shape == (3, *GRID)
    assert output.loss.shape == (3,)
    assert output.pooled.shape == (3, WIDTH)
    torch.testing.assert_close(output.error, expert(pictures(3, seed=4)).error)


def test_fewer_pictures_than_components_leave_the_rest_empty() -> None:
    expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=4, code=10))
    unseen = pictures(2, seed=7)
    expert.fit(pictures(6, seed=5), unseen, changed(unseen), WHOLE)
    assert expert(pictures(2, seed=6)).error.isfinite().all()
    assert not expert.basis[5:].any()


def test_channels_that_never_vary_stay_finite() -> None:
    expert = SubspaceExpert(WIDTH, GRID, PREFIX, SubspaceConfig(channels=WIDTH, code=2))
    grey = pictures(20, seed=5) * torch.tensor([1.0, 1, 1, 0, 0, 0])
    expert.fit(grey[:15], grey[15:], changed(grey[15:]), WHOLE)
    assert expert(grey).error.isfinite().all()
