"""A mixture of LoRA experts after a block: every token chooses its own (Sec. 4.3 of the MoECLIP paper).

Legend: B pictures, T tokens (cls and patches), D width, K experts, r rank.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.moeclip.model.config import MoEConfig

NORM_EPS = 1e-6


class MoEOutput(NamedTuple):
    """tokens (B, T, D) for the next block; probabilities (B, T, K) of the router, rows sum to 1;
    expert_outputs (B, T, K, D) of ALL experts before gating, or None where the fused form ran."""

    tokens: Tensor
    probabilities: Tensor
    expert_outputs: Tensor | None


class Router(nn.Module):
    """Softmax of one matrix; no nn.Linear, so that exports in half precision leave it in single.

    Near ties between logits decide which experts a token takes. hidden: width of a layer with ReLU before it.
    """

    def __init__(self, width: int, experts: int, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = _uniform(hidden, width) if hidden else None
        self.weight = _uniform(experts, hidden or width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.hidden is not None:
            x_BTD = F.linear(x_BTD, self.hidden).relu()
        return F.linear(x_BTD, self.weight).softmax(-1)


class LoRAMoE(nn.Module):
    """K linear experts B_n A_n x, of which each token takes the Top-k.

    lora_a (K r, D): all A_n below each other, frozen (Eq. 6) unless they are not separated. lora_b (D, K r):
    all B_n side by side. B does not start at zero, as LoRA's usually does: Eqs. 4 and 8 take directions, and
    the direction of a zero output has gradients around 1 / eps.
    """

    lora_a: Tensor

    def __init__(self, width: int, config: MoEConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = Router(width, config.experts, config.router_hidden)
        self.dropout = nn.Dropout(config.dropout)
        if config.separated:
            self.register_buffer("lora_a", orthogonal_slices(width, config.experts, config.rank))
        else:
            self.lora_a = _uniform(config.experts * config.rank, width)
        self.lora_b = nn.Parameter(width**-0.5 * torch.randn(width, config.experts * config.rank))

    def forward(self, x_BTD: Tensor, by_expert: bool = False) -> MoEOutput:
        """Route, adapt, match the norm (Eq. 4) and mix (Eq. 5).

        by_expert: also return what every expert says, as the ETF loss needs; the tokens are the same.
        """
        probabilities_BTK = self.gate(x_BTD)
        gates_BTK = top_gates(probabilities_BTK, self.config.top_k)
        outputs_BTKD = self.expert_outputs(x_BTD) if by_expert else None
        if outputs_BTKD is None:
            adapted_BTD = self.fused(x_BTD, gates_BTK)
        else:
            adapted_BTD = (gates_BTK.unsqueeze(-1) * outputs_BTKD).sum(2)
        mixed_BTD = mix_in(x_BTD, adapted_BTD, self.config.mix)
        return MoEOutput(mixed_BTD, probabilities_BTK, outputs_BTKD)

    def expert_outputs(self, x_BTD: Tensor) -> Tensor:
        """E_n(x) = alpha / r B_n A_n x of every expert, (B, T, K, D)."""
        hidden_BTKr = self._hidden(x_BTD)
        b_DKr = self.lora_b.unflatten(1, (self.config.experts, self.config.rank))
        return torch.einsum("btkr,dkr->btkd", hidden_BTKr, b_DKr) * self.config.scaling

    def fused(self, x_BTD: Tensor, gates_BTK: Tensor) -> Tensor:
        """Eq. 2 as one gated LoRA of rank K r: B ((gates, each r times) * (A x)), (B, T, D)."""
        gated_BTKr = self._hidden(x_BTD) * (self.config.scaling * gates_BTK).unsqueeze(-1)
        return gated_BTKr.flatten(2) @ self.lora_b.T

    def _hidden(self, x_BTD: Tensor) -> Tensor:
        """A_n x of every expert, (B, T, K, r).

        One dropout for all experts: with Eq. 6 they read disjoint channels, so it is as good as one each.
        """
        hidden = self.dropout(x_BTD) @ self.lora_a.T
        return hidden.unflatten(-1, (self.config.experts, self.config.rank))


def _uniform(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, width).uniform_(-(width**-0.5), width**-0.5))


def orthogonal_slices(width: int, experts: int, rank: int) -> Tensor:
    """Frozen orthogonal feature separation (Eq. 6): (K r, D), random orthonormal rows, zero off the slice.

    Expert n owns the n-th of K consecutive slices of the channels; the last takes what division leaves over.
    Raises ValueError when a slice is narrower than the rank.
    """
    slice_width = width // experts
    if slice_width < rank:
        raise ValueError(f"rank: {rank} exceeds the {slice_width} channels of each of {experts} experts")
    rows = torch.zeros(experts * rank, width)
    for n in range(experts):
        start, end = n * slice_width, width if n == experts - 1 else (n + 1) * slice_width
        orthonormal, _ = torch.linalg.qr(torch.randn(end - start, rank))
        rows[n * rank : (n + 1) * rank, start:end] = orthonormal.T
    return rows


def top_gates(probabilities: Tensor, top_k: int) -> Tensor:
    """The k largest of the last axis, renormalised, and zero elsewhere (Eq. 1); of equals, the first.

    Ranks are counted by comparison, so that an exported graph needs no TopK, Gather or Scatter.
    """
    mine, others = probabilities.unsqueeze(-1), probabilities.unsqueeze(-2)
    experts = torch.arange(probabilities.shape[-1], device=probabilities.device)
    is_earlier = experts < experts.unsqueeze(-1)
    ranks = ((others > mine) | ((others == mine) & is_earlier)).sum(-1)
    kept = probabilities * (ranks < top_k)
    return kept / kept.sum(-1, keepdim=True)


def mix_in(x_BTD: Tensor, adapted_BTD: Tensor, share: float) -> Tensor:
    """Give the adapted tokens the length of the originals (Eq. 4) and mix: share and 1 - share (Eq. 5)."""
    length = x_BTD.norm(dim=-1, keepdim=True) / (adapted_BTD.norm(dim=-1, keepdim=True) + NORM_EPS)
    # One tensor less than the formula as written: most of the time here goes into memory.
    return torch.addcmul((1 - share) * x_BTD, adapted_BTD, share * length)
