"""Several processes train one model: each sees its share of every batch, all hold the same weights.

Every process computes the loss of the whole batch from what all have gathered, but its gradients flow through
its own pictures only. Their sum over the processes is therefore the gradient of one process with the whole
batch, batch statistics included. Alone, all of this does nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist

from training.device import training_device

PATIENCE = timedelta(days=2)  # the others wait while the first process trains a backbone


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started: NCCL on GPUs, else gloo."""
    if not dist.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(training_device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes and shows progress."""
    return rank() == 0


def gather(own_b: Tensor) -> Tensor:
    """The rows of all processes (B, ...), in order of rank; gradients flow to this process's own (b, ...).

    All processes must have as many rows.
    """
    if world_size() == 1:
        return own_b
    parts = [torch.empty_like(own_b, requires_grad=False) for _ in range(world_size())]
    dist.all_gather(parts, own_b.detach().contiguous())
    parts[rank()] = own_b
    return torch.cat(parts)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over all processes; one that none has, as of an expert not chosen, stays absent."""
    if world_size() == 1:
        return
    has_gradient = torch.tensor([float(one.grad is not None) for one in parameters])
    has_gradient = has_gradient.to(parameters[0].device)
    dist.all_reduce(has_gradient)
    used = [one for one, count in zip(parameters, has_gradient.tolist(), strict=True) if count]
    if not used:
        return
    flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in used])
    dist.all_reduce(flat)
    for one, total in zip(used, flat.split([one.numel() for one in used]), strict=True):
        one.grad = total.view_as(one)


def share_weights(module: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first."""
    if world_size() == 1:
        return
    for tensor in module.state_dict().values():
        held = tensor.to(training_device())
        dist.broadcast(held, src=0)
        tensor.copy_(held)


def same_everywhere(number: int) -> bool:
    """Whether all processes say the same number."""
    return bool((gather(torch.tensor([number], device=training_device())) == number).all())


class ParallelError(ValueError):
    """A batch that cannot be shared between the processes; the message names the setting."""
