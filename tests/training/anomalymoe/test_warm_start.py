"""The router's beginning: pictures that look alike go to the same expert, on every level."""

import numpy as np
import pytest
import torch

from tests.training.anomalymoe.tiny import centres, tiny_model
from training.anomalymoe import warm_start
from training.anomalymoe.model.component import Centres
from training.anomalymoe.model.config import (
    GaussiansConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
    SubspaceConfig,
)
from training.anomalymoe.model.gaussian import GaussianExpert
from training.anomalymoe.model.subspace import SubspaceExpert
from training.anomalymoe.warm_start import encode_pictures, fit_closed_forms, start_router


def clusters(width: int) -> torch.Tensor:
    """cls tokens (20, D): ten around each of two points."""
    random = torch.Generator().manual_seed(0)
    points = 5 * torch.randn(2, width, generator=random)
    return points.repeat_interleave(10, dim=0) + 0.1 * torch.randn(20, width, generator=random)


def test_a_per_level_router_separates_clusters_and_weighs_levels_alike() -> None:
    model = tiny_model(
        router=RouterConfig(hidden=None, top_k=3, selection="per_level"),
        patch=PatchConfig(count=2, depth=1, heads=2),
    )
    cls = clusters(model.encoder.width)
    start_router(model, cls, torch.arange(2).repeat_interleave(10))
    choice = model.router(cls)
    assert model.config.counts == (2, 2, 2)
    for experts in choice.experts.T:
        assert (experts[:10] == experts[0]).all()
        assert (experts[10:] == experts[10]).all()
        assert experts[0] != experts[10]
    torch.testing.assert_close(choice.gates, torch.full_like(choice.gates, 1 / 3))


def test_other_routers_are_left_alone() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.router.state_dict().items()}
    start_router(model, clusters(model.encoder.width), torch.zeros(20))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.router.state_dict().items())


def test_a_single_picture_decides_a_router_and_its_subspaces() -> None:
    model = tiny_model(
        router=RouterConfig(hidden=None, top_k=3, selection="per_level"),
        global_=GlobalConfig(count=2, subspace=SubspaceConfig(channels=4, code=3)),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    encoded, products = encode_pictures(model, pixels), torch.zeros(1, dtype=torch.int64)
    start_router(model, encoded.cls, products)
    fit_closed_forms(model, pixels, products, encoded, lambda rows: Centres(*centres(len(rows))))
    choice = model.router(encoded.cls)
    assert choice.gates.isfinite().all()
    subspace = model.experts[int(choice.experts[0, 2])]
    assert isinstance(subspace, SubspaceExpert)
    assert float(subspace(encoded.features).error.max()) < 1e-6


def test_experts_with_the_same_pictures_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(
        router=RouterConfig(hidden=None, top_k=3, selection="per_level"),
        patch=PatchConfig(count=3, gaussians=GaussiansConfig(channels=4, count=2)),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    encoded, products = encode_pictures(model, pixels), torch.arange(2).repeat_interleave(6)
    fits: list[int] = []
    fit = GaussianExpert.fit

    def counted(expert: GaussianExpert, features: torch.Tensor, views: list[slice]) -> None:
        fits.append(len(features))
        fit(expert, features, views)

    monkeypatch.setattr(GaussianExpert, "fit", counted)
    monkeypatch.setattr(warm_start, "_rows_of_products", lambda chosen, _: torch.nonzero(chosen >= 0)[:, 0])
    fit_closed_forms(model, pixels, products, encoded, lambda rows: Centres(*centres(len(rows))))
    assert fits == [12]
    first, *others = (one.state_dict() for one in model.experts if isinstance(one, GaussianExpert))
    assert len(others) == 2
    for other in others:
        assert all(torch.equal(first[name], value) for name, value in other.items())
