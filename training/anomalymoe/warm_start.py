"""Where training begins and ends for experts of which each sees few pictures: clusters and components.

Legend: n pictures, D width, E experts.
"""

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.encoder import EncoderOutput
from training.anomalymoe.subspace import SubspaceExpert

FEWEST_PICTURES = 60  # a subspace of fewer says nothing about unseen pictures
LOGIT_SIZE = 2.0  # root mean square of the logits at the start


@torch.no_grad()
def start_router(detector: AnomalyMoE, cls_nD: Tensor, products_n: Tensor, seed: int = 0) -> None:
    """Let a linear `per_level` router begin as the nearest of K-means centres, so that like goes with like.

    products_n: number of each picture's product. What varies within a product counts for little, so that
    pictures of one product stay together. Every level gets the same logits where it has as many experts,
    hence the same weight. Other routers are left as they are.
    """
    router = detector.router
    if router.config.selection != "per_level" or not isinstance(router.gate, nn.Linear):
        return
    spread_D = _spread_within(cls_nD, products_n)
    columns = [_nearest_centre(cls_nD / spread_D, count, seed) for count in router.counts if count]
    router.gate.weight.copy_(torch.cat([weight for weight, _ in columns]) / spread_D)
    router.gate.bias.copy_(torch.cat([bias for _, bias in columns]))


@torch.no_grad()
def fit_subspaces(detector: AnomalyMoE, encoded: EncoderOutput) -> None:
    """Fit the experts that are decided in closed form, each on the pictures that the router sends it.

    An expert with too few of them is fitted on all.
    """
    chosen_nE = detector.router(encoded.cls).chosen.bool()
    for column, expert in enumerate(detector.experts):
        if isinstance(expert, SubspaceExpert):
            own = chosen_nE[:, column]
            enough = int(own.sum()) >= FEWEST_PICTURES
            expert.fit(encoded.features[own] if enough else encoded.features)


def _spread_within(cls_nD: Tensor, products_n: Tensor) -> Tensor:
    """Standard deviation of each channel within the products, (D,)."""
    centred = torch.cat(
        [
            cls_nD[products_n == product] - cls_nD[products_n == product].mean(0)
            for product in products_n.unique()
        ]
    )
    return centred.square().mean(0).sqrt().clamp(min=1e-3)


def _nearest_centre(cls_nD: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight (count, D) and bias (count,) whose largest logit is that of the nearest centre.

    |x - c|^2 = |x|^2 - 2 (c.x - |c|^2 / 2): the first term is the same for all.
    """
    means = KMeans(count, random_state=seed, n_init="auto").fit(cls_nD.numpy())
    weight = torch.from_numpy(means.cluster_centers_).to(cls_nD.dtype)
    bias = -weight.square().sum(1) / 2
    # Logits are compared within a level only; what all of them share is taken away to keep them small.
    weight, bias = weight - weight.mean(0), bias - bias.mean()
    logits = cls_nD @ weight.T + bias
    scale = LOGIT_SIZE / logits.square().mean().sqrt().clamp(min=1e-6)
    return scale * weight, scale * bias
