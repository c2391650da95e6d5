import numpy as np
import pytest
import torch

from training.anomalymoe.model.component import ComponentExpert, assign, fit_centres, grid_masks, paint, pool
from training.anomalymoe.model.config import ComponentConfig

GRID = (2, 2)
PATCHES = torch.tensor([[[0.0, 0.1], [1.0, 0.9], [0.2, 0.0], [5.0, 5.0]]])
CENTRES = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [7.0, 7.0]]])
ALL_VALID = torch.tensor([[True, True, True]])


def test_patches_go_to_the_nearest_centre():
    masks = assign(PATCHES, CENTRES, ALL_VALID, GRID)
    assert masks.int().tolist() == [[[[1, 0], [1, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 1]]]]


def test_invalid_centres_are_never_assigned():
    masks = assign(PATCHES, CENTRES, torch.tensor([[True, True, False]]), GRID)
    assert masks[:, 2].sum() == 0
    assert masks.sum(1).eq(1).all()
    assert assign(PATCHES, CENTRES, torch.zeros(1, 3, dtype=torch.bool), GRID).sum() == 0


def test_pooling_is_the_mean_over_the_mask_and_zero_when_empty():
    masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    masks[0, 0, :, 0] = True
    torch.testing.assert_close(pool(PATCHES, masks), torch.tensor([[[0.1, 0.05], [0.0, 0.0]]]))


def test_dilation_widens_the_pooled_mask():
    masks = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    masks[0, 0, 3, 3] = True
    patches = torch.arange(49.0).view(1, 49, 1)
    assert pool(patches, masks).item() == pytest.approx(24.0)
    wide = torch.zeros(7, 7)
    wide[1:6, 1:6] = 1
    uneven = patches.square()
    expected = (uneven.flatten() * wide.flatten()).sum() / 25
    assert pool(uneven, masks, dilation=5).item() == pytest.approx(expected.item())


def test_paint_takes_the_largest_error_where_masks_overlap():
    masks = torch.tensor([[[[1, 1], [0, 0]], [[0, 1], [1, 0]]]], dtype=torch.bool)
    assert paint(torch.tensor([[0.2, 0.5]]), masks)[0].tolist() == [
        [pytest.approx(0.2), 0.5],
        [0.5, 0.0],
    ]


def test_masks_from_outside_come_to_the_grid():
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    pixels[0, 0, 4:, :4] = True
    assert grid_masks(pixels, GRID)[0, 0].int().tolist() == [[0, 0], [1, 0]]


def test_absent_components_contribute_nothing():
    torch.manual_seed(0)
    expert = ComponentExpert(2, 1, ComponentConfig(hidden=8, code=4)).eval()
    features = torch.cat([torch.zeros(1, 1, 2), PATCHES], dim=1)
    two = expert(features, assign(PATCHES, CENTRES[:, :2], ALL_VALID[:, :2], GRID))
    padded = expert(features, assign(PATCHES, CENTRES, torch.tensor([[True, True, False]]), GRID))
    for plain, with_padding in zip(two, padded, strict=True):
        torch.testing.assert_close(plain, with_padding)
    nothing = expert(features, torch.zeros(1, 3, 2, 2, dtype=torch.bool))
    assert nothing.error.sum() == nothing.loss.sum() == nothing.pooled.sum() == 0


def test_gradients_stay_finite_with_empty_masks():
    expert = ComponentExpert(2, 0, ComponentConfig(hidden=8, code=4))
    masks = assign(PATCHES, CENTRES, torch.tensor([[True, False, False]]), GRID)
    expert(PATCHES, masks).loss.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in expert.parameters())


def test_loss_is_the_mean_over_components_not_over_patches():
    torch.manual_seed(0)
    expert = ComponentExpert(2, 0, ComponentConfig(hidden=8, code=4)).eval()
    masks = assign(PATCHES, CENTRES, ALL_VALID, GRID)
    output = expert(PATCHES, masks)
    one_each = output.error.flatten()[torch.tensor([0, 1, 3])]
    torch.testing.assert_close(output.loss, one_each.mean()[None])


def test_centres_find_the_clusters_and_repeat():
    noise = np.random.default_rng(0).normal(scale=0.01, size=(60, 2))
    truth = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    patches = (np.repeat(truth, 20, axis=0) + noise).astype(np.float32)
    centres = fit_centres(patches, 3, seed=4)
    assert centres.dtype == np.float32
    assert np.abs(np.sort(centres, axis=0) - np.sort(truth, axis=0)).max() < 0.1
    np.testing.assert_array_equal(centres, fit_centres(patches, 3, seed=4))


def test_more_centres_than_patches_are_refused():
    with pytest.raises(ValueError, match="count must not exceed the number of patches 2, got 3"):
        fit_centres(np.zeros((2, 4), dtype=np.float32), 3)
