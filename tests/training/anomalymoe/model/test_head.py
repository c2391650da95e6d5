import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch.nn import functional as F

from training.anomalymoe.model.head import Head


@pytest.mark.parametrize(("grid", "map_size"), [((8, 8), (8, 8)), ((8, 6), (40, 30)), ((6, 9), (50, 20))])
def test_map_is_the_sum_of_the_levels_upsampled_and_then_blurred(
    grid: tuple[int, int], map_size: tuple[int, int]
):
    levels = torch.rand(2, 3, *grid)
    upsampled = F.interpolate(levels.sum(1, keepdim=True), map_size, mode="bilinear")
    offsets = np.arange(5) - 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 32)
    expected = convolve(upsampled[1, 0].numpy(), kernel / kernel.sum(), mode="constant")
    np.testing.assert_allclose(Head(map_size, grid)(levels).map[1].numpy(), expected, rtol=1e-5)


def test_scores_are_the_mean_of_the_top_one_percent():
    output = Head((40, 30), (8, 6))(torch.rand(2, 3, 8, 6))
    assert output.map.shape == (2, 40, 30)
    top = output.map[0].flatten().sort(descending=True).values[:12]
    torch.testing.assert_close(output.score[0], top.mean())
    assert output.level_scores.shape == (2, 3)


def test_a_level_alone_scores_as_its_own_map():
    levels = torch.rand(1, 3, 8, 8)
    alone = torch.zeros_like(levels)
    alone[:, 1] = levels[:, 1]
    head = Head((16, 16), (8, 8))
    torch.testing.assert_close(head(levels).level_scores[0, 1], head(alone).score[0])
    assert head(alone).level_scores[0, 0] == 0


def test_small_maps_score_at_least_one_pixel():
    output = Head((4, 4), (4, 4))(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(output.score[0], output.map.max())
