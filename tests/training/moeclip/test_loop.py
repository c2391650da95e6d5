"""Training steps: what moves and what is frozen, that every loss reaches its parameters, and the schedule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.moeclip.tiny import (
    MODEL,
    UNCHANGED,
    auxiliary,
    tiny_config,
    tiny_detector,
    tiny_tokenizer,
)
from tests.training.tiny_run import no_resume
from training.moeclip.loop import DivergedError, Trainer, evidence, train_adapters
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.detector import MoECLIP

ROWS = np.array([0, 1, 2, 3])
ADAPTED = MoECLIPConfig.model_validate(MODEL.model_dump() | {"text_adapter": True})


def trainer(data: Path, model: MoECLIPConfig = MODEL, **train: Any) -> Trainer:
    return Trainer(tiny_detector(model), tiny_tokenizer(), auxiliary(data), tiny_config(**train).train)


def state(detector: MoECLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def gradients(data: Path, term: str, model: MoECLIPConfig = MODEL) -> dict[str, Tensor]:
    """Gradient of one loss term in a step as training takes it, by parameter that it reaches."""
    one = trainer(data, model)
    image, truth = one.look_up(1, ROWS)
    losses, _ = one.losses(image, [one.data.names[row] for row in ROWS], truth)
    parameters = dict(one.detector.named_parameters())
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    found = torch.autograd.grad(getattr(losses, term), list(trained.values()), allow_unused=True)
    return {
        name: gradient
        for name, gradient in zip(trained, found, strict=True)
        if gradient is not None and gradient.abs().max() > 1e-8
    }


@pytest.mark.parametrize("model", [MODEL, ADAPTED], ids=["frozen text", "text adapter"])
def test_only_adapters_move(pictures: Path, model: MoECLIPConfig) -> None:
    one = trainer(pictures, model)
    before = state(one.detector)
    for step in (1, 2):
        one.step(step, ROWS)
    moved = {
        name for name, tensor in one.detector.state_dict().items() if not torch.equal(tensor, before[name])
    }
    expected = {name for name in before if not name.startswith("clip.") and not name.endswith("lora_a")}
    assert moved == expected
    assert ("text_adapter.weight" in moved) == model.text_adapter


def test_experts_are_in_training_mode_and_clip_is_not(pictures: Path) -> None:
    detector = trainer(pictures).detector
    assert all(part.training for part in detector.moe.modules())
    assert not any(part.training for part in detector.clip.modules())
    assert not any(parameter.requires_grad for parameter in detector.clip.parameters())


def test_etf_loss_reaches_every_b(pictures: Path) -> None:
    reached = gradients(pictures, "etf")
    assert {"moe.0.lora_b", "moe.1.lora_b"} <= set(reached)
    for name in ("moe.0.lora_b", "moe.1.lora_b"):
        columns = reached[name].unflatten(1, (4, 4)).abs().amax((0, 2))
        assert (columns > 0).all()  # each expert's own B


def test_balance_loss_reaches_every_gate(pictures: Path) -> None:
    reached = gradients(pictures, "balance")
    assert {"moe.0.gate.weight", "moe.1.gate.weight"} <= set(reached)
    assert (reached["moe.1.gate.weight"].abs().amax(1) > 0).all()


@pytest.mark.parametrize("term", ["focal", "dice"])
def test_map_losses_reach_experts_routers_and_projections(pictures: Path, term: str) -> None:
    reached = gradients(pictures, term)
    expected = {
        "moe.0.lora_b",
        "moe.0.gate.weight",
        "moe.1.lora_b",
        "projections.0.weight",
        "projections.1.weight",
    }
    assert expected <= set(reached)


def test_image_loss_reaches_the_image_adapter_and_the_text_adapter(pictures: Path) -> None:
    reached = gradients(pictures, "image", ADAPTED)
    expected = {"image_adapter.depthwise.weight", "image_adapter.pointwise.weight", "text_adapter.weight"}
    assert expected <= set(reached)


@pytest.mark.parametrize(("term", "parameter"), [("etf", "lora_b"), ("balance", "gate.weight")])
def test_an_auxiliary_loss_moves_its_parameter_in_training(pictures: Path, term: str, parameter: str) -> None:
    """The same steps with and without the term end at different values; nothing else differs."""
    ends: list[Tensor] = []
    for weight in (0.0, 1.0):
        one = trainer(pictures, MODEL, **{"etf_weight": 0.0, "balance_weight": 0.0, f"{term}_weight": weight})
        for step in range(1, 4):
            one.step(step, ROWS)
        ends.append(one.detector.get_parameter(f"moe.0.{parameter}").detach().clone())
    assert not torch.equal(*ends)


def test_dropout_of_the_experts_acts_in_training_alone(pictures: Path) -> None:
    one = trainer(pictures)
    image, _ = one.look_up(1, ROWS)
    with torch.no_grad():
        first, second = (one.detector(image).tokens for _ in range(2))
        assert not torch.equal(first, second)
        one.detector.eval()
        first, second = (one.detector(image).tokens for _ in range(2))
    assert torch.equal(first, second)


def test_without_experts_the_rest_is_trained(pictures: Path) -> None:
    bare = MoECLIPConfig.model_validate(MODEL.model_dump() | {"moe": None})
    one = trainer(pictures, bare)
    before = state(one.detector)
    curves = one.step(1, ROWS)
    assert curves["loss/etf"] == curves["loss/balance"] == 0
    assert not any(name.startswith("share/") for name in curves)
    moved = {
        name for name, tensor in one.detector.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert "projections.0.weight" in moved
    assert not any(name.startswith("clip.") for name in moved)


def test_learning_rate_is_halved_at_the_milestones(pictures: Path) -> None:
    one = trainer(pictures, learning_rate=0.01, milestones=(2, 3))
    rates = []
    for step in range(1, 6):
        one.step(step, ROWS)
        rates.append(one.optimiser.param_groups[0]["lr"])
    assert rates == [0.01, 0.01, 0.005, 0.0025, 0.0025]
    assert one.optimiser.param_groups[0]["betas"] == (0.5, 0.999)


def test_epochs_become_steps() -> None:
    config = tiny_config(steps=None, epochs=20, batch_size=2).train
    assert config.total_steps(2162) == 21620
    assert tiny_config(steps=7).train.total_steps(2162) == 7


def test_losses_fall(pictures: Path) -> None:
    totals: list[float] = []
    config = tiny_config(steps=60, augment=UNCHANGED).train
    train_adapters(
        tiny_detector(),
        tiny_tokenizer(),
        auxiliary(pictures),
        config,
        lambda _, curves: totals.append(curves["loss/total"].item()),
        no_resume(),
    )
    assert sum(totals[-10:]) < 0.6 * sum(totals[:10])


def test_bfloat16_is_near_float32(pictures: Path) -> None:
    full, half = (
        trainer(pictures, precision=precision).step(1, ROWS)["loss/total"].item()
        for precision in ("float32", "bfloat16")
    )
    assert half == pytest.approx(full, rel=0.1)
    assert half != full


def test_a_defect_that_is_moved_away_is_no_defect(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(pictures)
    one.data.is_anomalous[:] = True
    masks = torch.zeros(4, 40, 40, dtype=torch.bool)
    masks[:2, :1, :1] = True  # lost as soon as anything moves
    loaded = np.zeros((4, 40, 40, 3), np.uint8), masks.numpy()
    monkeypatch.setattr(one.data, "load", lambda _: loaded)
    labels = torch.stack([one.look_up(step, ROWS)[1].is_anomalous for step in range(1, 40)])
    assert 0 < labels[:, :2].mean() < 1
    assert labels[:, 2:].all()  # too small to be seen in the mask, but told by the label


def test_a_loss_that_is_not_finite_stops_training(pictures: Path) -> None:
    one = trainer(pictures)
    with torch.no_grad():
        one.detector.get_parameter("projections.0.weight").fill_(torch.nan)
    with pytest.raises(DivergedError, match="the loss is nan at step 7"):
        one.step(7, ROWS)


def test_evaluation_evidence_equals_training_evidence_but_for_dropout(pictures: Path) -> None:
    """What the losses see is what the served model computes: maps of the fused pass are those by expert."""
    one = trainer(pictures)
    image, _ = one.look_up(1, ROWS)
    text = one.texts.of([one.data.names[row] for row in ROWS])
    with torch.no_grad():
        one.detector.eval()
        fused, by_expert = (
            evidence(one.detector, one.detector(image, split), text) for split in (False, True)
        )
    for mine, other in zip(fused.maps, by_expert.maps, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    assert not fused.experts
