"""Weights as half-precision numbers, which bundles store at half the size."""

import torch
from torch import nn


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Every float32 weight to the nearest half-precision number, still as float32."""
    for tensor in module.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.copy_(tensor.half())
