import numpy as np
import torch
from scipy.ndimage import convolve

from training.anomalymoe.head import Head


def test_map_is_the_blurred_sum_of_the_levels():
    levels = torch.rand(2, 3, 8, 8)
    output = Head((8, 8))(levels)
    offsets = np.arange(5) - 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 32)
    expected = convolve(levels[1].sum(0).numpy(), kernel / kernel.sum(), mode="constant")
    np.testing.assert_allclose(output.map[1].numpy(), expected, rtol=1e-5)


def test_scores_are_the_mean_of_the_top_one_percent():
    output = Head((40, 30))(torch.rand(2, 3, 8, 6))
    assert output.map.shape == (2, 40, 30)
    top = output.map[0].flatten().sort(descending=True).values[:12]
    torch.testing.assert_close(output.score[0], top.mean())
    assert output.level_scores.shape == (2, 3)


def test_a_level_alone_scores_as_its_own_map():
    levels = torch.rand(1, 3, 8, 8)
    alone = torch.zeros_like(levels)
    alone[:, 1] = levels[:, 1]
    head = Head((16, 16))
    torch.testing.assert_close(head(levels).level_scores[0, 1], head(alone).score[0])
    assert head(alone).level_scores[0, 0] == 0


def test_small_maps_score_at_least_one_pixel():
    output = Head((4, 4))(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(output.score[0], output.map.max())
