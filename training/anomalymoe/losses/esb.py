"""Expert selection balancing: the three terms that keep the router from using a few experts only.

Legend: B batch, E experts.
"""

from typing import NamedTuple

from torch import Tensor

from training.anomalymoe.model.config import EsbConfig
from training.anomalymoe.model.router import RouterOutput


class EsbLosses(NamedTuple):
    """The terms of Eq. 3 before weighting, and their weighted sum."""

    importance: Tensor
    load: Tensor
    z: Tensor
    total: Tensor


def selection_balance(router: RouterOutput, even_share_E: Tensor, config: EsbConfig) -> EsbLosses:
    """L_ESB, Eq. 3 of the AnomalyMoE paper.

    even_share_E: fraction of the batch that each expert gets under even use. The gate probabilities are the
    softmax over ALL logits, as the paper asks below Eq. 9, so that experts not chosen receive gradients too.
    """
    probabilities_BE = router.logits.softmax(1)
    chosen_BE = router.chosen
    capacity_E = config.capacity_factor * len(chosen_BE) * even_share_E
    importance = importance_loss(probabilities_BE)
    load = load_loss(chosen_BE, probabilities_BE, capacity_E)
    z = z_loss(router.logits)
    return EsbLosses(importance, load, z, config.importance * importance + config.load * load + config.z * z)


def importance_loss(gates_BE: Tensor) -> Tensor:
    """Spread the gate mass over the experts: E * sum_j P_j^2, Eq. 3 of the AnomalyMoE paper.

    gates_BE: gate weights, rows sum to 1. Returns a scalar, 1.0 when perfectly even.
    """
    return gates_BE.shape[1] * gates_BE.mean(0).square().sum()


def load_loss(chosen_BE: Tensor, probabilities_BE: Tensor, capacity_E: Tensor) -> Tensor:
    """Penalise experts over capacity: sum_j max(C_j - capacity_j, 0)^2, Eq. 3 of the AnomalyMoE paper.

    chosen_BE: 1 where an expert was chosen, else 0. A count has no gradient: its value comes from
    `chosen_BE`, its slope from the expected count, the probabilities times the choices (straight-through).
    """
    expected_E = (probabilities_BE * chosen_BE.sum(1, keepdim=True)).sum(0)
    counts_E = chosen_BE.sum(0) + expected_E - expected_E.detach()
    return (counts_E - capacity_E).clamp(min=0).square().sum()


def z_loss(logits_BE: Tensor) -> Tensor:
    """Keep the logits small: the squared logits summed over experts, mean over the batch, Eq. 3."""
    return logits_BE.square().sum(1).mean()
