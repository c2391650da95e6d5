from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from training.stable_adamw import StableAdamW

SETTINGS = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-10, "weight_decay": 0.01}


def run(optimiser_class: type, gradients: list[Tensor], amsgrad: bool) -> Tensor:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimiser = optimiser_class([parameter], amsgrad=amsgrad, **SETTINGS)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_equals_adamw_while_the_gradients_do_not_grow(amsgrad):
    gradients = [torch.tensor([1.0, -0.5, 2.0]) * 0.8**i for i in range(6)]
    # AdamW takes the maximum of the second moment before its correction, we after: the first step has one.
    adamw = run(torch.optim.AdamW, gradients if not amsgrad else gradients[:1], amsgrad)
    ours = run(StableAdamW, gradients if not amsgrad else gradients[:1], amsgrad)
    torch.testing.assert_close(ours, adamw)


def test_a_sudden_gradient_shrinks_the_whole_tensors_step():
    small, large = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([30.0, 1.0, 1.0])
    parameter = nn.Parameter(torch.zeros(3))
    optimiser = StableAdamW(
        [parameter], lr=0.1, betas=(0.9, 0.99), eps=1e-10, weight_decay=0.0, amsgrad=False
    )
    for gradient in (small, large):
        before = parameter.detach().clone()
        parameter.grad = gradient
        optimiser.step()
    first = (0.9 * 0.1 * small + 0.1 * large) / (1 - 0.9**2)
    second = (0.99 * 0.01 * small**2 + 0.01 * large**2) / (1 - 0.99**2)
    ratio = (large**2 / second).mean().sqrt()
    assert ratio > 1
    torch.testing.assert_close(parameter.detach() - before, -0.1 / ratio * first / second.sqrt())


def test_amsgrad_remembers_the_largest_second_moment():
    gradients = [torch.full((3,), 5.0), *[torch.full((3,), 0.01)] * 40]
    start = torch.tensor([1.0, -2.0, 3.0])
    assert (run(StableAdamW, gradients, True) - start).abs().sum() < (
        run(StableAdamW, gradients, False) - start
    ).abs().sum()


def test_zero_gradients_only_decay():
    parameter = nn.Parameter(torch.ones(2))
    optimiser = StableAdamW([parameter], lr=0.1, weight_decay=0.5)
    parameter.grad = torch.zeros(2)
    optimiser.step()
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 0.95))


def test_state_survives_saving():
    torch.manual_seed(0)
    gradients = torch.randn(4, 3).unbind()
    continued = nn.Parameter(torch.ones(3))
    restored = nn.Parameter(torch.ones(3))
    one, other = StableAdamW([continued]), StableAdamW([restored])
    for i, gradient in enumerate(gradients):
        if i == 2:
            with torch.no_grad():
                restored.copy_(continued)
            other.load_state_dict(deepcopy(one.state_dict()))
        continued.grad = restored.grad = gradient
        one.step()
        other.step()
    torch.testing.assert_close(continued, restored)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"lr": -1.0}, "lr must not be negative, got -1.0"), ({"betas": (0.9, 1.0)}, "betas must lie in")],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        StableAdamW([nn.Parameter(torch.ones(1))], **setting)
