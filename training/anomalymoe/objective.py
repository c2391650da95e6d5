"""The training objective: gate-weighted reconstruction, selection balancing and information repulsion.

Legend: B batch, b pictures that chose an expert, D width, E experts, M components, H W pixels.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.anomalymoe.detector import AnomalyMoE, Scene
from training.anomalymoe.eir import EirLosses, InformationRepulsion, Pair
from training.anomalymoe.encoder import EncoderOutput
from training.anomalymoe.esb import selection_balance
from training.anomalymoe.router import RouterOutput


class Losses(NamedTuple):
    """The terms before weighting and their total (Eq. 9); `estimation` is for the CLUB estimators alone."""

    reconstruction: Tensor
    importance: Tensor
    load: Tensor
    z: Tensor
    repulsion: Tensor
    total: Tensor
    estimation: Tensor


class Objective(nn.Module):
    """A model with what only its training needs: the CLUB estimators and the loss of Eq. 9.

    `total` moves the router and the experts, `estimation` the parameters of `repulsion`. Backpropagate both
    before either optimiser steps.
    """

    def __init__(self, model: AnomalyMoE) -> None:
        super().__init__()
        self.model = model
        self.repulsion = InformationRepulsion(model.encoder.width, model.config.counts, model.config.eir)

    def forward(
        self, image: Tensor, centres_BMD: Tensor, valid_BM: Tensor, encoded: EncoderOutput | None = None
    ) -> Losses:
        """image: normalised (B, 3, H, W), normal pictures only. centres_BMD, valid_BM: as for the model.

        encoded: what the encoder says about the pictures, when it is known already.
        """
        encoded = encoded or self.model.encode(image)
        masks = self.model.component_masks(encoded.features, centres_BMD, valid_BM)
        router: RouterOutput = self.model.router(encoded.cls)
        pairs = self.repulsion.choose_pairs()
        scene = Scene(image, encoded.features, masks)
        reconstruction, pooled = self._run_experts(scene, router, set(chain.from_iterable(pairs)))
        config = self.model.config
        esb = selection_balance(router, self.model.router.even_share, config.esb)
        eir = self._repel(pairs, pooled, reconstruction)
        total = reconstruction + config.esb.weight * esb.total + config.eir.weight * eir.repulsion
        return Losses(reconstruction, esb.importance, esb.load, esb.z, eir.repulsion, total, eir.estimation)

    def _run_experts(
        self, scene: Scene, router: RouterOutput, needed_whole: set[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The first term of Eq. 9 and, of the experts in `needed_whole`, the pooled outputs of the batch.

        Those see all pictures, since the pairs of Eq. 4 are of the same picture; the others only their own.
        """
        gates_BE = router.dense_gates
        if self.model.config.router.selection == "per_level":
            # Every level is seen anyway: the losses must not teach the router to look away from the harder.
            gates_BE = gates_BE.detach()
        loss = gates_BE.new_zeros(())
        pooled: dict[int, Tensor] = {}
        for column in sorted(needed_whole | set(router.experts.unique().tolist())):
            if column in needed_whole:
                output = self.model.run_expert(column, scene)
                pooled[column] = output.pooled
                loss = loss + (gates_BE[:, column] * output.loss).sum()
            else:
                rows_b = torch.nonzero(router.chosen[:, column]).squeeze(1)
                output = self.model.run_expert(column, scene.take(rows_b))
                loss = loss + (gates_BE[rows_b, column] * output.loss).sum()
        return loss / len(gates_BE), pooled

    def _repel(self, pairs: Sequence[Pair], pooled: dict[int, Tensor], like: Tensor) -> EirLosses:
        if not pairs:
            zero = torch.zeros_like(like)
            return EirLosses(zero, zero)
        return self.repulsion(pairs, pooled)
