"""The balance loss: every expert of a layer used as much as the others.

Legend: T tokens, K experts.
"""

from torch import Tensor

EPSILON = 1e-6


def balance_loss(probabilities_TK: Tensor) -> Tensor:
    """Squared coefficient of variation of the load of the experts of one layer, Eqs. 9 and B.1.

    probabilities_TK: softmax of the router's logits over all experts, before Top-K; leading axes may be
    several. The variance is that of a sample (divided by K - 1). Returns a scalar, 0 for equal loads or a
    single expert; the paper sums it over the layers.
    """
    load_K = probabilities_TK.float().flatten(0, -2).sum(0)
    if len(load_K) < 2:
        return load_K.sum() * 0.0
    return load_K.var() / (load_K.mean().square() + EPSILON)
