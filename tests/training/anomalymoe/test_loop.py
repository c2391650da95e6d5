"""The training loop: its schedule, its batches, what it moves, and that it learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tiny_run import PRODUCTS, no_resume, normal_pictures, tiny_checkpoint
from training.anomalymoe import loop
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.fit_config import TrainConfig
from training.anomalymoe.loop import NormalPictures, Trainer, _choices, _share, learning_rate, train_experts
from training.anomalymoe.losses.objective import Losses, Objective
from training.anomalymoe.model.config import EirConfig, EsbConfig
from training.anomalymoe.model.detector import AnomalyMoE
from training.distributed import ParallelError
from training.runs.resume import ResumeError

COUNT = 6


def config(**changes: Any) -> TrainConfig:
    settings = {"steps": 40, "batch_size": 4, "warmup_steps": 4, "learning_rate": 5e-3, "gradient_clip": 1.0}
    return TrainConfig.model_validate(settings | changes)


def data(checkpoint: Checkpoint) -> NormalPictures:
    """Six pictures of each product."""
    centres = [checkpoint.categories[name].centres for name in PRODUCTS]
    return NormalPictures(
        pixels=np.concatenate([normal_pictures(name, COUNT) for name in PRODUCTS]),
        products=np.repeat(np.arange(2), COUNT),
        centres={0: centres[0], 1: centres[1][:2]},
    )


def trained(settings: TrainConfig) -> tuple[AnomalyMoE, list[Losses]]:
    checkpoint = tiny_checkpoint()
    history: list[Losses] = []
    train_experts(
        checkpoint.detector,
        data(checkpoint),
        settings,
        lambda _, outcome: history.append(outcome.losses),
        no_resume(),
    )
    return checkpoint.detector, history


@pytest.fixture(scope="module")
def run() -> tuple[AnomalyMoE, list[Losses]]:
    return trained(config())


def test_learning_lowers_the_loss(run: tuple[AnomalyMoE, list[Losses]]) -> None:
    history = run[1]
    assert len(history) == 40
    for term in ("total", "reconstruction"):
        values = [getattr(losses, term).item() for losses in history]
        assert np.mean(values[-8:]) < 0.7 * np.mean(values[:8]), term


def test_router_and_experts_move_and_the_encoder_does_not(run: tuple[AnomalyMoE, list[Losses]]) -> None:
    detector, before = run[0], tiny_checkpoint().detector.state_dict()
    moved = {name for name, tensor in detector.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name in moved if name.startswith("encoder.")} == set()
    for part in ("router", *(f"experts.{column}" for column in range(5))):
        assert any(name.startswith(f"{part}.") for name in moved), part


def test_the_detector_is_left_in_evaluation_mode(run: tuple[AnomalyMoE, list[Losses]]) -> None:
    assert not any(module.training for module in run[0].modules())


def test_the_same_seed_trains_the_same_detector() -> None:
    first, second, other = (trained(config(steps=3, seed=seed))[0].state_dict() for seed in (0, 0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_steps_follow_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that falls to zero after the first step leaves what that step made."""
    monkeypatch.setattr(loop, "learning_rate", lambda step, _config: float(step == 0))
    once, thrice = (trained(config(steps=steps))[0].state_dict() for steps in (1, 3))
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, thrice[name], msg=name)


def test_each_picture_is_encoded_once() -> None:
    checkpoint = tiny_checkpoint()
    encoded: list[int] = []

    def count(_module: torch.nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        encoded.append(len(inputs[0]))

    checkpoint.detector.get_submodule("encoder").register_forward_hook(count)
    train_experts(checkpoint.detector, data(checkpoint), config(steps=4), lambda *_: None, no_resume())
    assert sum(encoded) == 2 * COUNT


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (3, 8), (5, 5)])
def test_every_picture_comes_once_before_any_comes_again(count: int, batch_size: int) -> None:
    settings = config(steps=7, batch_size=batch_size)
    batches = list(_choices(count, settings))
    assert [len(batch) for batch in batches] == [batch_size] * 7
    drawn = np.concatenate(batches)
    for start in range(0, len(drawn) - count + 1, count):
        assert sorted(drawn[start : start + count]) == list(range(count))
    for one, again in zip(batches, _choices(count, settings), strict=True):
        np.testing.assert_array_equal(one, again)


def test_centres_follow_the_product_of_each_picture() -> None:
    checkpoint = tiny_checkpoint()
    values, valid = data(checkpoint).centres_of(np.array([COUNT, 0]))
    assert valid.tolist() == [[True, True, False], [True, True, True]]
    np.testing.assert_array_equal(values[1], checkpoint.categories[PRODUCTS[0]].centres)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.6), (110, 0.2), (500, 0.2)]
)
def test_the_rate_warms_up_and_falls_along_a_cosine(step: int, expected: float) -> None:
    settings = config(steps=110, warmup_steps=10, final_learning_rate=0.2)
    assert learning_rate(step, settings) == pytest.approx(expected)


def test_the_rate_starts_at_its_highest_without_warm_up_and_never_rises() -> None:
    settings = config(steps=20, warmup_steps=0)
    rates = [learning_rate(step, settings) for step in range(20)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)


def test_a_run_shorter_than_its_warm_up_works() -> None:
    settings = config(steps=3, warmup_steps=10)
    assert [learning_rate(step, settings) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def exact_trainer(**changes: Any) -> Trainer:
    """A trainer with nothing random and no batch statistics, that leaves gradients as they are."""
    checkpoint = tiny_checkpoint()
    detector = checkpoint.detector
    silent = {"esb": EsbConfig(weight=0), "eir": EirConfig(weight=0)}
    detector.config = detector.config.model_copy(update=silent)
    return Trainer(
        Objective(detector).eval(), data(checkpoint), None, config(**{"gradient_clip": 1e9} | changes)
    )


def test_experts_learn_in_training_mode() -> None:
    """Else neither noise nor dropout keeps them from copying."""
    checkpoint = tiny_checkpoint()
    modes: set[bool] = set()

    def note(module: torch.nn.Module, _inputs: object) -> None:
        if torch.is_grad_enabled():
            modes.add(module.training)

    for expert in checkpoint.detector.experts:
        expert.register_forward_pre_hook(note)
    train_experts(checkpoint.detector, data(checkpoint), config(steps=2), lambda *_: None, no_resume())
    assert modes == {True}


def test_a_step_moves_the_estimators_too() -> None:
    checkpoint = tiny_checkpoint()
    trainer = Trainer(Objective(checkpoint.detector).train(), data(checkpoint), None, config())
    estimators = trainer.objective.repulsion
    before = {name: one.clone() for name, one in estimators.state_dict().items()}
    trainer.step(1, np.arange(4) * 3)
    assert before
    assert not any(torch.equal(one, before[name]) for name, one in estimators.state_dict().items())


def test_both_optimisers_have_the_published_settings() -> None:
    optimisers = Trainer(
        Objective(tiny_checkpoint().detector), data(tiny_checkpoint()), None, config()
    ).optimisers
    assert optimisers.keys() == {"optimiser", "estimator_optimiser"}
    for optimiser in optimisers.values():
        settings = {
            name: optimiser.param_groups[0][name] for name in ("betas", "eps", "weight_decay", "amsgrad")
        }
        assert settings == {"betas": (0.9, 0.999), "eps": 1e-10, "weight_decay": 1e-4, "amsgrad": True}


def test_gradients_are_clipped_to_their_norm() -> None:
    free, clipped = exact_trainer(), exact_trainer(gradient_clip=1e-3)
    norms = []
    for trainer in (free, clipped):
        trainer.step(1, np.arange(4) * 3)
        norms.append(torch.stack([one.norm() for one in gradients(trainer).values()]).norm().item())
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    named = trainer.objective.named_parameters()
    return {name: one.grad for name, one in named if one.grad is not None}


def test_parts_of_a_batch_give_the_gradients_of_the_whole() -> None:
    """Of the terms that are means over pictures; those of the whole batch are another."""
    rows = np.arange(4) * 3
    whole, parts = exact_trainer(), exact_trainer(accumulate=4)
    outcomes = [trainer.step(1, rows) for trainer in (whole, parts)]
    expected = gradients(whole)
    assert len(expected) > 10
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(gradient, expected.pop(name), msg=name)
    assert expected == {}
    torch.testing.assert_close(outcomes[0].losses.reconstruction, outcomes[1].losses.reconstruction)
    torch.testing.assert_close(outcomes[0].usage.share, outcomes[1].usage.share)


def test_batches_encoded_as_they_come_train_the_same() -> None:
    rows = np.arange(4) * 3
    checkpoint = tiny_checkpoint()
    encoded = loop._encode_all(checkpoint.detector, data(checkpoint).pixels, 10**9)
    assert encoded is not None
    known, unknown = exact_trainer(), exact_trainer()
    known.encoded = encoded
    for trainer in (known, unknown):
        trainer.step(1, rows)
    expected = gradients(known)
    for name, gradient in gradients(unknown).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    assert loop._encode_all(checkpoint.detector, data(checkpoint).pixels, 100) is None


def test_what_is_random_follows_from_seed_and_step() -> None:
    first, second = exact_trainer(), exact_trainer()
    for trainer in (first, second):
        trainer.objective.train()
    first.step(1, np.arange(4))
    torch.rand(3)
    second.step(1, np.arange(4))
    for name, gradient in gradients(first).items():
        assert torch.equal(gradient, gradients(second)[name]), name
    before = torch.rand(1)
    second.step(2, np.arange(4))
    assert not torch.equal(before, torch.rand(1))


def test_every_process_gets_its_own_part_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(batch_size=12, accumulate=3)
    monkeypatch.setattr(loop, "world_size", lambda: 2)
    shares = []
    for number in (0, 1):
        monkeypatch.setattr(loop, "rank", lambda number=number: number)
        shares.append([part.tolist() for part in _share(np.arange(12), settings)])
    assert shares == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "world_size", lambda: 3)
    with pytest.raises(ParallelError, match=r"train\.batch_size .* processes 2 \* 3, got 4"):
        _share(np.arange(4), config(accumulate=2))


def test_a_state_that_only_some_processes_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "same_everywhere", lambda _step: False)
    with pytest.raises(ResumeError, match="nowhere: not seen by all processes"):
        trained(config(steps=1))
