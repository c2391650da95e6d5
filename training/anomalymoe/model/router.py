"""The router: which experts see a picture, and with which weight.

Legend: B batch, D width, E experts, K top-k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.anomalymoe.model.config import RouterConfig


class RouterOutput(NamedTuple):
    """logits (B, E), experts int64 (B, K): router columns, gates (B, K): rows sum to 1."""

    logits: Tensor
    experts: Tensor
    gates: Tensor

    @property
    def dense_gates(self) -> Tensor:
        """The gates of all experts, zero where not chosen (Eq. 2), (B, E)."""
        return torch.zeros_like(self.logits).scatter(1, self.experts, self.gates)

    @property
    def chosen(self) -> Tensor:
        """1 for the chosen experts, 0 for the others, (B, E)."""
        return torch.zeros_like(self.logits).scatter(1, self.experts, 1.0)


class Router(nn.Module):
    """Top-K over the logits of the cls token, softmax over the chosen ones only (Eqs. 1 and 2).

    counts: experts of each level. Gates are float32 whatever the precision of the rest.
    """

    even_share: Tensor

    def __init__(self, width: int, counts: Sequence[int], config: RouterConfig) -> None:
        super().__init__()
        self.config = config
        self.counts = tuple(counts)
        experts = sum(counts)
        self.gate = (
            nn.Linear(width, experts)
            if config.hidden is None
            else nn.Sequential(nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, experts))
        )
        self.register_buffer("even_share", torch.tensor(self._even_shares()), persistent=False)

    def forward(self, cls_BD: Tensor) -> RouterOutput:
        return self.route(self.gate(cls_BD).float())

    def route(self, logits_BE: Tensor) -> RouterOutput:
        """Choose by logits; an expert with a logit of minus infinity is never chosen."""
        experts_BK = self._choose(logits_BE)
        return RouterOutput(logits_BE, experts_BK, logits_BE.gather(1, experts_BK).softmax(1))

    def _choose(self, logits_BE: Tensor) -> Tensor:
        if self.config.selection == "top_k":
            return logits_BE.topk(self.config.top_k, dim=1).indices
        starts = [sum(self.counts[:level]) for level in range(len(self.counts))]
        best = [
            logits_BE[:, start : start + count].argmax(1) + start
            for start, count in zip(starts, self.counts, strict=True)
            if count
        ]
        return torch.stack(best, dim=1)

    def _even_shares(self) -> list[float]:
        """The fraction of the pictures that each expert sees when all are used evenly."""
        if self.config.selection == "top_k":
            return [self.config.top_k / sum(self.counts)] * sum(self.counts)
        return [1.0 / count for count in self.counts for _ in range(count)]
