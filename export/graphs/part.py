"""A part of a model that becomes one graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_AXES = {
    "image": ("B",),
    "features": ("B",),
    "cls": ("B",),
    "rows": ("b",),
    "centres": ("b", "M"),
    "valid": ("b", "M"),
    "levels": ("B",),
    "experts": ("B",),
    "gates": ("B",),
    "error": ("b",),
    "map": ("B",),
    "score": ("B",),
    "level_scores": ("B",),
}


@dataclass(frozen=True, eq=False)
class Part:
    """One graph to be: its key, the module that computes it, and the names of what goes in and comes out.

    exact: whether it stays float32 in every precision. axes: of each input and output, the names of the
    leading axes that may have any size.
    """

    key: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    exact: bool = False
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _AXES)


def random_pictures(size: tuple[int, int], batch: int) -> Tensor:
    """Noise, uint8 (B, H, W, 3), the same for the same batch."""
    random = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, *size, 3), generator=random).to(torch.uint8)
