"""What a picture costs: parameters, time, peak memory and operations (Table 13 of the MoECLIP paper)."""

import resource
from time import perf_counter
from typing import NamedTuple

import torch

from training.device import on_training_device
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.reporting.macs import FLOPS_PER_MAC, counted

_TIMED = 5


class Cost(NamedTuple):
    """Of the vision pass of one picture; both numbers of parameters are of the whole model.

    peak_memory_bytes: on a GPU what its tensors took at most, else of the whole process.
    """

    parameters: int
    trained_parameters: int
    flops: int
    time_ms: float
    peak_memory_bytes: int
    device: str


@torch.inference_mode()
def measure_cost(run: Checkpoint[RunConfig]) -> Cost:
    """Let the model see a blank picture, once to count and then a few times against the clock."""
    model, spec = run.model, run.config.input
    pixels = torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8)
    with on_training_device(model):
        device = model.mean.device
        _, macs = counted(lambda: model(model.normalise(pixels)))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        times = [_timed(run, pixels) for _ in range(_TIMED)]
        peak = (
            torch.cuda.max_memory_allocated(device)
            if device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
    sizes = {one: one.numel() for one in model.parameters()}
    return Cost(
        parameters=sum(sizes.values()),
        trained_parameters=sum(size for one, size in sizes.items() if one.requires_grad),
        flops=FLOPS_PER_MAC * macs,
        time_ms=1000 * min(times),
        peak_memory_bytes=peak,
        device=device.type,
    )


def _timed(run: Checkpoint[RunConfig], pixels: torch.Tensor) -> float:
    """Seconds of one pass; reading a number waits for the GPU."""
    start = perf_counter()
    run.model(run.model.normalise(pixels)).summary.sum().item()
    return perf_counter() - start
