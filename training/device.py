"""What a process computes on, and how precisely."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "bfloat16"]


def training_device() -> torch.device:
    """What ANOMOE_DEVICE says: cpu, cuda, or by default the GPU of this process where there is one.

    Raises OSError for cuda without a GPU, and for another word.
    """
    wanted = os.environ.get("ANOMOE_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda") or (wanted == "cuda" and not torch.cuda.is_available()):
        raise OSError(f"ANOMOE_DEVICE: auto, cpu or, with a GPU, cuda is expected, got {wanted!r}")
    if wanted != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Late in training, denormal numbers make a CPU several times slower; afterwards they count again."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def on_training_device(module: nn.Module) -> Iterator[None]:
    """A module of the CPU on `training_device` for the time being, its convolutions in full precision.

    What is calibrated must not hold the rounding of a GPU: an error is one minus a cosine.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        module.to(training_device())
        try:
            yield
        finally:
            module.cpu()
