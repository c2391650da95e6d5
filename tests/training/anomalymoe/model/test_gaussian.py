"""The patch expert in closed form: what normal patches explain is no error, another patch is one."""

import torch
from torch.nn import functional as F

from training.anomalymoe.model.config import GaussiansConfig
from training.anomalymoe.model.gaussian import GaussianExpert

WIDTH, GRID, PREFIX = 6, (4, 5), 1
VIEWS = (slice(0, 2), slice(2, 6))


def pictures(count: int, seed: int) -> torch.Tensor:
    """Features (n, 1 + 20, 6): columns of two kinds of patches, with a little noise."""
    random = torch.Generator().manual_seed(seed)
    kinds = 3 * torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    patches = kinds[torch.arange(20) % 5 // 3]
    noise = 0.1 * torch.randn(count, PREFIX + 20, WIDTH, generator=random)
    return F.pad(patches, (0, 0, PREFIX, 0)) + noise


def fitted(count: int = 4, channels: int = WIDTH) -> GaussianExpert:
    expert = GaussianExpert(WIDTH, GRID, PREFIX, GaussiansConfig(count=count, channels=channels))
    expert.fit(pictures(20, seed=1), VIEWS)
    return expert


def averaged(expert: GaussianExpert, features: torch.Tensor) -> torch.Tensor:
    """What a patch is compared by: the mean of itself and its neighbours on the axes, (n, h, w, C)."""
    patches = ((features[:, PREFIX:] - expert.mean) @ expert.mixing.T).unflatten(1, GRID)
    means = [
        patches[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(1, 2).mean(1)
        for y in range(GRID[0])
        for x in range(GRID[1])
    ]
    return torch.stack(means, 1).unflatten(1, GRID)


def test_the_error_of_one_gaussian_is_the_mahalanobis_distance() -> None:
    expert, features = fitted(count=1, channels=4), pictures(3, seed=2)
    normal = averaged(expert, pictures(20, seed=1)).flatten(0, 2)
    covariance = torch.cov(normal.T, correction=0) + 0.005 * normal.var(0).mean() * torch.eye(4)
    deviation = averaged(expert, features) - normal.mean(0)
    expected = torch.einsum("nhwc,cd,nhwd->nhw", deviation, covariance.inverse(), deviation)
    torch.testing.assert_close(expert(features).error, expected, rtol=0.02, atol=0.02)


def test_errors_are_those_of_the_likeliest_gaussian_less_the_least_possible() -> None:
    """Density and weight of two Gaussians by torch's own distributions."""
    expert, features = fitted(count=2, channels=3), pictures(3, seed=2)
    matrices = expert.whitening.unflatten(1, (2, 3)).transpose(0, 1)
    surplus = []
    for matrix in matrices:
        mean = -matrix[-1] @ matrix[:-1].inverse()
        gaussian = torch.distributions.MultivariateNormal(
            mean, precision_matrix=matrix[:-1] @ matrix[:-1].T, validate_args=False
        )
        at_best = gaussian.log_prob(mean)
        surplus.append(2 * (at_best - gaussian.log_prob(averaged(expert, features))))
    expected = torch.minimum(surplus[0] + expert.surplus[0], surplus[1] + expert.surplus[1])
    torch.testing.assert_close(expert(features).error, expected, rtol=1e-3, atol=1e-2)
    assert float(expert.surplus.min()) == 0


def test_a_patch_that_was_never_seen_stands_out_wherever_it_is() -> None:
    expert, normal = fitted(), pictures(4, seed=3)
    damaged = normal.clone()
    damaged[:, PREFIX + 7] += 2.0
    assert (expert(damaged).error.flatten(1).amax(1) > 10 * expert(normal).error.amax()).all()
    shown = expert(damaged).error > 3 * expert(normal).error.amax()
    assert shown[:, :3, 1:4].any((1, 2)).all()
    assert not shown[:, 3].any()


def test_fewer_patches_than_gaussians_have_values_too() -> None:
    expert = GaussianExpert(WIDTH, GRID, PREFIX, GaussiansConfig(count=100, channels=10))
    expert.fit(pictures(1, seed=1), VIEWS)
    error = expert(pictures(2, seed=5)).error
    assert error.isfinite().all()
    assert (error >= 0).all()


def test_a_picture_alone_and_in_a_batch_has_the_same_error() -> None:
    expert, features = fitted(), pictures(5, seed=4)
    assert expert(features).pooled.shape == (5, WIDTH)
    torch.testing.assert_close(expert(features[2:3]).error, expert(features).error[2:3])


def test_matrices_are_half_precision_numbers() -> None:
    matrices = fitted().whitening
    assert torch.equal(matrices.half().float(), matrices)


def test_the_state_survives_saving() -> None:
    other = GaussianExpert(WIDTH, GRID, PREFIX, GaussiansConfig(count=4, channels=WIDTH))
    other.load_state_dict(fitted().state_dict())
    features = pictures(2, seed=6)
    assert torch.equal(other(features).error, fitted()(features).error)
