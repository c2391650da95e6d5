"""Half precision where it pays: weights and products of linear layers and convolutions.

Everything between them, as norms, softmax and distances, stays float32: an error that is one minus a cosine
has no digits left in half precision.
"""

import copy
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from export.graphs.part import Part


class HalfLayer(nn.Module):
    """A linear layer or convolution on half-precision inputs and weights, float32 outside."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.half()).float()


class Halver:
    """Parts in half precision; the originals, and parts that are exact, are left alone.

    What several parts share, as the detector they are all cut from, is copied once.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def __call__(self, part: Part) -> Part:
        if part.exact:
            return part
        module = copy.deepcopy(part.module, self._copies)
        for parent in list(module.modules()):
            if isinstance(parent, HalfLayer):
                continue
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear | nn.Conv2d):
                    setattr(parent, name, HalfLayer(child))
        return replace(part, module=module)
