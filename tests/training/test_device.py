import torch

from training.device import denormals_as_zero


def test_denormals_count_again_after_a_training() -> None:
    small = torch.full((8,), torch.finfo(torch.float32).smallest_normal)

    with denormals_as_zero():
        assert (small / 2 == 0).all()

    assert (small / 2 > 0).all()
