import torch

from training.moeclip.model.paa import aggregate


def test_windows_are_means_and_the_zeros_beyond_the_border_count() -> None:
    patches = torch.arange(1.0, 13.0).view(1, 12, 1)  # rows 1..4, 5..8, 9..12
    pooled = aggregate(patches, (3, 4), 3).view(3, 4)
    assert pooled[0, 0] == (1 + 2 + 5 + 6) / 9
    assert pooled[1, 1] == (1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11) / 9
    torch.testing.assert_close(pooled[2, 3], torch.tensor((7 + 8 + 11 + 12) / 9))
    wide = aggregate(patches, (3, 4), 5).view(3, 4)
    assert wide[1, 1] == (10 + 26 + 42) / 25
    torch.testing.assert_close(wide[0, 0], torch.tensor((6 + 18 + 30) / 25))


def test_scale_one_changes_nothing_and_channels_stay_apart() -> None:
    patches = torch.randn(2, 12, 3)
    assert aggregate(patches, (3, 4), 1) is patches
    first = aggregate(patches, (3, 4), 3)[..., :1]
    torch.testing.assert_close(first, aggregate(patches[..., :1], (3, 4), 3))
