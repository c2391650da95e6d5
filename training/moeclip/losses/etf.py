"""The ETF loss: the outputs of the experts of a layer drawn towards equal angles, as far apart as can be.

Legend: T tokens, K experts, D width.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def ideal_gram(experts: int, like: Tensor) -> Tensor:
    """The Gram matrix (K, K) of a simplex equiangular tight frame, Eq. 3 of the MoECLIP paper.

    1 on the diagonal, -1 / (K - 1) elsewhere. A single expert has no other to keep away from.
    """
    apart = -1 / (experts - 1) if experts > 1 else 0.0
    identity = torch.eye(experts, dtype=like.dtype, device=like.device)
    return apart + (1 - apart) * identity


def etf_loss(outputs_TKD: Tensor) -> Tensor:
    """Mean squared distance of the Gram matrix of each token's expert outputs from the ideal one, Eqs. 7-8.

    outputs_TKD: outputs of all experts of one layer for every token, whoever was chosen; leading axes may be
    several. Returns a scalar, 0 at equal and widest angles; the paper sums it over the layers.
    """
    units = normalize(outputs_TKD.float(), dim=-1)
    gram_TKK = units @ units.transpose(-1, -2)
    return (gram_TKK - ideal_gram(units.shape[-2], units)).square().mean()
