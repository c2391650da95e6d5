"""Maps and scores by hand: two axes, e0 normal and e1 anomalous, on a 5 x 5 grid."""

import math

import pytest
import torch

from training.moeclip.model.maps import (
    image_logits,
    image_score,
    margins,
    patch_logits,
    released_map,
    released_score,
    served_map,
    training_maps,
)

GRID = (5, 5)
TEXT = torch.eye(2)
INDUSTRIAL, MEDICAL = torch.tensor([False]), torch.tensor([True])


def one_spot(value: float = 1.0) -> torch.Tensor:
    """Margins (1, 25), zero but in the middle."""
    spot = torch.zeros(1, 25)
    spot[0, 12] = value
    return spot


def test_logits_are_cosines_times_hundred() -> None:
    angle = torch.tensor(math.radians(60))
    tokens = torch.stack([angle.cos(), angle.sin()]).view(1, 1, 1, 2)
    torch.testing.assert_close(
        patch_logits(tokens, TEXT), torch.tensor([[[[50.0, 86.60254]]]]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(image_logits(torch.tensor([[3.0, 4.0]]), TEXT), torch.tensor([[60.0, 80.0]]))


def test_each_picture_can_have_its_own_texts() -> None:
    tokens = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    logits = patch_logits(tokens, torch.stack([TEXT, TEXT.flip(0)]))
    assert logits.flatten(1).tolist() == [[100.0, 0.0], [0.0, 100.0]]
    whole = image_logits(tokens.view(2, 2), torch.stack([TEXT, TEXT.flip(0)]))
    assert whole.tolist() == [[100.0, 0.0], [0.0, 100.0]]


def test_training_maps_keep_the_corners_and_sum_to_one() -> None:
    logits = torch.randn(2, 3, 25, 2, generator=torch.Generator().manual_seed(0))
    maps = training_maps(logits, GRID, (17, 23))
    assert maps.shape == (2, 3, 2, 17, 23)
    torch.testing.assert_close(maps.sum(2), torch.ones(2, 3, 17, 23))
    torch.testing.assert_close(maps[..., 0, 0], logits[:, :, 0].softmax(-1))
    torch.testing.assert_close(maps[..., -1, -1], logits[:, :, 24].softmax(-1))
    middle = (logits[:, :, 0] + logits[:, :, 1]) / 2  # softmax comes after the interpolation
    torch.testing.assert_close(training_maps(logits, GRID, (9, 9))[..., 0, 1], middle.softmax(-1))


@pytest.mark.parametrize(("medical", "sigma", "reach"), [(INDUSTRIAL, 1.0, 3), (MEDICAL, 1.5, 4)])
def test_a_spot_is_smoothed_by_the_gaussian_of_its_domain(
    medical: torch.Tensor, sigma: float, reach: int
) -> None:
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    line = line / line.sum()
    # Reflected at the border, the spot in column 2 is seen in columns -2 and 6 too.
    seen = [sum(line[reach + at - x] for at in (-2, 2, 6) if abs(at - x) <= reach) for x in range(5)]
    along_an_axis = torch.tensor(seen)
    smooth = released_map(one_spot(), medical, GRID, GRID, maps=2)[0] - 1
    torch.testing.assert_close(smooth, along_an_axis[:, None] * along_an_axis)


def test_the_served_map_is_a_half_where_nothing_is_nearer_and_the_domains_are_by_row() -> None:
    rows = served_map(one_spot(50.0).expand(2, -1), torch.tensor([False, True]), GRID, (41, 41))
    alone = [served_map(one_spot(50.0), one, GRID, (41, 41))[0] for one in (INDUSTRIAL, MEDICAL)]
    torch.testing.assert_close(rows, torch.stack(alone))
    assert rows[0, 20, 20] > rows[1, 20, 20] > 0.5
    assert served_map(torch.zeros(1, 25), INDUSTRIAL, GRID, (7, 7)).unique().tolist() == [0.5]


def test_the_served_map_is_the_released_sum_on_another_scale() -> None:
    """sigmoid((m - S/2) / (S/2)), m the released sum over S maps of (100 cos a + 1 - 100 cos n) / 2."""
    logits = 100 * torch.rand(1, 4, 25, 2, generator=torch.Generator().manual_seed(0))
    margin = margins(logits)
    flat = ((logits[..., 1] + 1 - logits[..., 0]) / 2).sum(1)
    torch.testing.assert_close(4 / 2 * (1 + margin), flat)
    released = released_map(margin, INDUSTRIAL, GRID, (15, 15), maps=4)
    served = served_map(margin, INDUSTRIAL, GRID, (15, 15))
    torch.testing.assert_close(served, torch.sigmoid((released - 2) / 2))


def test_scores_of_both_domains() -> None:
    maps = torch.tensor([[[0.2, 0.8]], [[0.2, 0.8]]])
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    scores = image_score(maps, logits, torch.tensor([False, True]))
    torch.testing.assert_close(scores, torch.tensor([(0.8 + 0.75) / 2, 0.8]))
    torch.testing.assert_close(released_score(torch.tensor([[0.1, 0.4]]), TEXT), torch.tensor([0.7]))
