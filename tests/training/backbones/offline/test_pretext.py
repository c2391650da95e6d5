"""The pretext: the loss reaches every part, learning lowers it, and the best check chooses the encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tiny_run import ENCODER, SIZE, WIDTH, no_resume, normal_pictures
from training.backbones.offline import pretext
from training.backbones.offline.encoder import FEATURE_OFFSET, LEAST_STD, OfflineEncoder
from training.backbones.offline.pretext import (
    Check,
    PretextConfig,
    PretextModel,
    _DamagedPictures,
    normalise,
    pretext_loss,
    train_backbone,
)
from training.runs.resume import Resume

KEPT, HELD_OUT = normal_pictures("disc", 8), normal_pictures("disc", 4, first_seed=20)


def trained(config: PretextConfig) -> tuple[OfflineEncoder, list[Check], list[float]]:
    losses: list[float] = []
    encoder, checks = train_backbone(
        KEPT, HELD_OUT, ENCODER, config, lambda _, loss: losses.append(loss), no_resume()
    )
    return encoder, checks, losses


@pytest.fixture(scope="module")
def run() -> tuple[OfflineEncoder, list[Check], list[float]]:
    return trained(PretextConfig(steps=40, batch_size=4, learning_rate=3e-3, checks=6))


def test_learning_lowers_the_loss(run: tuple[OfflineEncoder, list[Check], list[float]]) -> None:
    losses = run[2]
    assert len(losses) == 40
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_progress_is_checked_at_even_steps_and_at_the_end(
    run: tuple[OfflineEncoder, list[Check], list[float]],
) -> None:
    checks, losses = run[1:]
    assert [check.step for check in checks] == [6, 12, 18, 24, 30, 36, 40]
    assert [check.loss for check in checks] == [losses[check.step - 1] for check in checks]
    assert all(0 <= check.auroc <= 1 for check in checks)


def test_the_encoder_is_frozen_and_standardised_on_the_training_pictures(
    run: tuple[OfflineEncoder, list[Check], list[float]],
) -> None:
    encoder = run[0]
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert_standardised(encoder)


def test_batch_norm_learns_its_statistics(run: tuple[OfflineEncoder, list[Check], list[float]]) -> None:
    best = max(reversed(run[1]), key=lambda check: check.auroc)
    assert run[0].state_dict()["stem.1.num_batches_tracked"] == best.step


def assert_standardised(encoder: OfflineEncoder) -> None:
    """Of the patches of the training pictures."""
    patches = encoder(normalise(KEPT)).features[:, 1:].flatten(0, 1)
    torch.testing.assert_close(patches.mean(0), torch.full((WIDTH,), FEATURE_OFFSET), rtol=0, atol=1e-4)
    varied = encoder.feature_std > LEAST_STD
    assert varied.sum() > 16
    torch.testing.assert_close(
        patches.std(0, correction=0)[varied], torch.ones(WIDTH)[varied], rtol=0, atol=1e-4
    )


def test_the_same_seed_trains_the_same_encoder() -> None:
    config = PretextConfig(steps=3, batch_size=2, checks=1)
    first, second, other = (trained(config.model_copy(update={"seed": seed})) for seed in (0, 0, 1))
    assert first[2] == second[2] != other[2]
    for name, tensor in first[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name]), name


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    config = PretextConfig(steps=8, batch_size=2, checks=4)
    resume = Resume(tmp_path / "state", key="", every=3)
    expected, checks, losses = trained(config)
    seen: list[float] = []

    def stop_at_seven(step: int, _loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_backbone(KEPT, HELD_OUT, ENCODER, config, stop_at_seven, resume)
    encoder, checks_again = train_backbone(
        KEPT, HELD_OUT, ENCODER, config, lambda _, loss: seen.append(loss), resume
    )
    assert checks_again == checks
    assert seen == losses[6:]
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


def test_the_encoder_of_the_best_check_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter([0.6, 0.9, 0.7])
    seen: list[Tensor] = []

    def judge(_self: object, encoder: OfflineEncoder) -> float:
        seen.append(encoder.position.detach().clone())
        return next(marks)

    monkeypatch.setattr(pretext._HeldOutCheck, "__call__", judge)
    encoder, checks, _ = trained(PretextConfig(steps=3, batch_size=2, checks=3))
    assert [check.auroc for check in checks] == [0.6, 0.9, 0.7]
    assert torch.equal(encoder.position, seen[1])
    assert not torch.equal(encoder.position, seen[2])
    assert_standardised(encoder)


def batch(**changes: float) -> tuple[Tensor, Tensor, Tensor]:
    config = PretextConfig.model_validate({"batch_size": 6, **changes})
    return _DamagedPictures(KEPT, config)[3]


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    pictures = _DamagedPictures(KEPT, PretextConfig(batch_size=3))
    first = pictures[7]
    pictures[8]
    for one, again in zip(first, pictures[7], strict=True):
        assert torch.equal(one, again)
    assert not torch.equal(first[0], pictures[8][0])
    assert not torch.equal(first[0], _DamagedPictures(KEPT, PretextConfig(batch_size=3, seed=1))[7][0])


def test_batches_hold_damaged_pictures_masks_and_originals() -> None:
    damaged, mask, clean = batch(undamaged=0)
    assert damaged.shape == clean.shape == (6, 3, SIZE, SIZE)
    assert mask.shape == (6, 1, SIZE, SIZE)
    change = (damaged - clean).abs().mean(1, keepdim=True)
    assert change[mask == 1].mean() > 3 * change[mask == 0].mean()


def test_undamaged_pictures_differ_by_noise_alone() -> None:
    damaged, mask, clean = batch(undamaged=1)
    assert not mask.any()
    assert 0 < (damaged - clean).abs().mean() < 0.1


def test_the_heads_draw_cells_and_a_thumbnail() -> None:
    segmentation, thumbnail = PretextModel(ENCODER)(batch()[0])
    assert segmentation.shape == (6, 1, 12, 12)
    assert thumbnail.shape == (6, 3, 8, 8)


@pytest.fixture
def model() -> PretextModel:
    torch.manual_seed(0)
    return PretextModel(ENCODER)


def test_the_loss_moves_every_parameter(model: PretextModel) -> None:
    pretext_loss(model, *batch(), PretextConfig()).backward()
    for name, _ in model.named_parameters():
        assert gradient(model, name).any(), name


def gradient(model: PretextModel, name: str) -> Tensor:
    """What a parameter is told to change, zero when nothing."""
    parameter = model.get_parameter(name)
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def test_a_weight_of_zero_silences_the_thumbnail(model: PretextModel) -> None:
    pretext_loss(model, *batch(), PretextConfig(thumbnail_weight=0)).backward()
    assert not gradient(model, "thumbnail.weight").any()
    assert gradient(model, "segmentation.0.weight").any()


def test_normalising_centres_the_pixel_range() -> None:
    pixels = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=-1)
    assert normalise(pixels).flatten(1).tolist() == [[-2, -2, -2], [2, 2, 2]]


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_any_number_of_steps_has_a_schedule(steps: int) -> None:
    losses = trained(PretextConfig(steps=steps, batch_size=1, checks=1))[2]
    assert len(losses) == steps
    assert np.isfinite(losses).all()
