"""Expert information repulsion: experts of one level are kept from telling the same (CLUB, Eq. 4).

Legend: B batch, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from training.anomalymoe.model.config import EirConfig
from training.distributed import gather

Pair = tuple[int, int]


class Gaussian(NamedTuple):
    """Mean and logarithm of the variance of q(z_k | z_j), both (B, D)."""

    mean: Tensor
    logvar: Tensor


class EirLosses(NamedTuple):
    """repulsion moves the experts only, estimation (negative log-likelihood) the estimators only."""

    repulsion: Tensor
    estimation: Tensor


class ClubEstimator(nn.Module):
    """q(z_k | z_j), a diagonal Gaussian, and the bound on the mutual information that it gives.

    The log variance is bounded by tanh, as its authors advise, which keeps the bound finite.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mean = _mlp(width, hidden)
        self.logvar = nn.Sequential(_mlp(width, hidden), nn.Tanh())

    def forward(self, given_BD: Tensor) -> Gaussian:
        return Gaussian(self.mean(given_BD), self.logvar(given_BD))

    def log_likelihood(self, given_BD: Tensor, told_BD: Tensor) -> Tensor:
        """log q(z_k | z_j) of matched samples without the constant, (B,): its mean is to be maximised."""
        q: Gaussian = self(given_BD)
        return (-(told_BD - q.mean).square() / q.logvar.exp() - q.logvar).sum(1) / 2

    def upper_bound(self, given_BD: Tensor, told_BD: Tensor) -> Tensor:
        """CLUB, Eq. 4: matched log-likelihood minus that of all B x B pairs, a scalar in nats.

        All pairs in closed form have the same expectation as one permutation, without its noise. The gradient
        reaches the samples, never the estimator.
        """
        frozen = {name: parameter.detach() for name, parameter in self.named_parameters()}
        q: Gaussian = functional_call(self, frozen, given_BD)
        matched_BD = (told_BD - q.mean).square()
        centre_D, spread_D = told_BD.mean(0), told_BD.var(0, correction=0)
        unmatched_BD = spread_D + (centre_D - q.mean).square()
        return ((unmatched_BD - matched_BD) / q.logvar.exp()).sum(1).mean() / 2


class InformationRepulsion(nn.Module):
    """One estimator for every pair of experts of a level; trained by its own optimiser, never exported.

    counts: experts of each level, in router order.
    """

    def __init__(self, width: int, counts: Sequence[int], config: EirConfig) -> None:
        super().__init__()
        self.config = config
        self.pairs = tuple(_pairs_within_levels(counts))
        self.estimators = nn.ModuleDict(
            {_key(pair): ClubEstimator(width, config.hidden) for pair in self.pairs}
        )

    def choose_pairs(self) -> tuple[Pair, ...]:
        """The pairs of router columns whose repulsion this step needs; none when its weight is 0."""
        if not self.config.weight or not self.pairs:
            return ()
        if self.config.pairs == "all_pairs":
            return self.pairs
        return (self.pairs[int(torch.randint(len(self.pairs), ()))],)

    def forward(self, chosen: Sequence[Pair], pooled: Mapping[int, Tensor]) -> EirLosses:
        """Bounds summed over all pairs, estimated from the chosen ones.

        pooled: column -> pooled reconstruction (B, D) of ALL pictures of this process, the same for all.
        chosen: at least one pair.
        """
        directions = {column: direction(z_BD) for column, z_BD in pooled.items()}
        bounds: list[Tensor] = []
        likelihoods: list[Tensor] = []
        for j, k in chosen:
            estimator = self.estimators[_key((j, k))]
            assert isinstance(estimator, ClubEstimator)
            # The pictures of all processes: the unmatched samples of the bound are those of the whole batch.
            bounds.append(estimator.upper_bound(gather(directions[j]), gather(directions[k])))
            own = estimator.log_likelihood(directions[j].detach(), directions[k].detach())
            likelihoods.append(gather(own).mean())
        scale = len(self.pairs) / len(chosen)
        return EirLosses(scale * torch.stack(bounds).sum(), -torch.stack(likelihoods).mean())


def direction(pooled_BD: Tensor) -> Tensor:
    """The pooled output at length sqrt(D), so that its entries are of size 1.

    Cosine errors leave the length free, and growing it would lower the bound without end.
    """
    return F.normalize(pooled_BD, dim=1) * sqrt(pooled_BD.shape[1])


def _pairs_within_levels(counts: Sequence[int]) -> Iterator[Pair]:
    start = 0
    for count in counts:
        yield from combinations(range(start, start + count), 2)
        start += count


def _key(pair: Pair) -> str:
    return f"{pair[0]}-{pair[1]}"


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
