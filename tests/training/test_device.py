import pytest
import torch

from training.device import denormals_as_zero, training_device


def test_denormals_count_again_after_a_training() -> None:
    small = torch.full((8,), torch.finfo(torch.float32).smallest_normal)

    with denormals_as_zero():
        assert (small / 2 == 0).all()

    assert (small / 2 > 0).all()


@pytest.mark.parametrize("word", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("ANOMOE_DEVICE", word)
    with pytest.raises(OSError, match="ANOMOE_DEVICE: auto, cpu or, with a GPU, cuda is expected"):
        training_device()


def test_the_processor_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device().type == "cuda"
    monkeypatch.setenv("ANOMOE_DEVICE", "cpu")
    assert training_device().type == "cpu"
