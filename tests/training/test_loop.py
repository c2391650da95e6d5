"""The training loop: its schedule, its batches, what it moves, and that it learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tiny_run import PRODUCTS, no_resume, normal_pictures, tiny_checkpoint
from training import loop
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.objective import Losses
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.loop import NormalPictures, _choices, learning_rate, train_experts

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
