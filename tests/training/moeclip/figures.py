"""Reference figures of a small MoECLIP model; tests that need them are skipped where they are absent."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests import oracle
from tests.made import made_input, made_weight

PATH = oracle.find_case("moeclip_a")
needs_figures = pytest.mark.skipif(
    PATH is None, reason="no reference figures; set ANOMOE_ORACLE to their folder"
)


@cache
def settings() -> dict[str, Any]:
    """Sizes and seed of the small model, and the shapes of its parameters."""
    assert PATH is not None
    return json.loads(PATH.read_text())


@cache
def figure(name: str) -> NDArray[np.float32]:
    """One array of what the reference program returned."""
    assert PATH is not None
    with np.load(PATH.with_suffix(".npz"), allow_pickle=False) as arrays:
        return arrays[name]


def adapter_weight(name: str) -> Tensor:
    """One parameter of the adapters."""
    full = f"image_adapter.moe_adapters.{name}"
    return made_weight(settings()["seed"], full, settings()["parameters"][full])


def given(what: str, *shape: int) -> Tensor:
    """One input."""
    return made_input(settings()["seed"], what, shape)


def probe_outputs(layer: int) -> Tensor:
    """Outputs (2, 7, K, width) of all experts of a layer for the probe, but for the factor alpha / rank."""
    tokens = given("tokens", 2, 7, settings()["width"])
    experts = [f"{layer}.experts.{number}" for number in range(settings()["K"])]
    return torch.stack(
        [
            tokens @ adapter_weight(f"{one}.lora_A.weight").T @ adapter_weight(f"{one}.lora_B.weight").T
            for one in experts
        ],
        dim=2,
    )


def probe_routing(layer: int) -> Tensor:
    """Probabilities (2, 7, K) of the router of a layer for the probe."""
    tokens = given("tokens", 2, 7, settings()["width"])
    return (tokens @ adapter_weight(f"{layer}.gate.weight").T).softmax(-1)
