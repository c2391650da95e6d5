"""Gradients of one batch on a tiny model: alone, and as one of the processes of torchrun."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.training.anomalymoe.tiny import centres, pictures, spread_choices, tiny_model
from training.anomalymoe.losses.objective import Losses, Objective
from training.anomalymoe.model.config import EirConfig, EsbConfig
from training.distributed import is_main, process_group, rank, sum_gradients, world_size

BATCH = 6
PAIRS = ((0, 1),)


def tiny_objective() -> Objective:
    """Nothing random, weights that let every term count, and a tight capacity."""
    torch.manual_seed(0)
    model = tiny_model(esb=EsbConfig(weight=1.0, capacity_factor=0.5), eir=EirConfig(weight=1.0, hidden=8))
    spread_choices(model, pictures(BATCH))
    return Objective(model).eval()


def gradients(objective: Objective) -> tuple[dict[str, Tensor], Losses]:
    """What each parameter is told to change by this process's share of the batch, summed over processes."""
    own = slice(rank() * BATCH // world_size(), (rank() + 1) * BATCH // world_size())
    values, valid = centres(BATCH)
    losses = objective(pictures(BATCH)[own], values[own], valid[own], PAIRS).losses
    (losses.total + losses.estimation).backward()
    sum_gradients([one for one in objective.parameters() if one.requires_grad])
    return {
        name: one.grad.clone() for name, one in objective.named_parameters() if one.grad is not None
    }, losses


if __name__ == "__main__":
    with process_group():
        found, summed_up = gradients(tiny_objective())
        if is_main():
            named = {f"loss/{name}": value.detach() for name, value in summed_up._asdict().items()}
            save_file(found | named, Path(sys.argv[1]))
