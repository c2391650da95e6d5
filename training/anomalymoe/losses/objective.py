"""The training objective: gate-weighted reconstruction, selection balancing and information repulsion.

Legend: B batch, b pictures that chose an expert, D width, E experts, M components, H W pixels.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.contract.manifest import Level
from training.anomalymoe.losses.eir import EirLosses, InformationRepulsion, Pair
from training.anomalymoe.losses.esb import selection_balance
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.router import RouterOutput
from training.backbones.base import EncoderOutput
from training.device import Precision
from training.distributed import gather


class Losses(NamedTuple):
    """The terms before weighting and their total (Eq. 9); `estimation` is for the CLUB estimators alone."""

    reconstruction: Tensor
    importance: Tensor
    load: Tensor
    z: Tensor
    repulsion: Tensor
    total: Tensor
    estimation: Tensor


class Usage(NamedTuple):
    """share (E,): of the pictures, who chose an expert; gate (E,): its mean gate, 0 where not chosen.

    chosen_passes, extra_passes: experts run for a picture, because it chose them or for Eq. 4 only.
    """

    share: Tensor
    gate: Tensor
    chosen_passes: Tensor
    extra_passes: Tensor


class Outcome(NamedTuple):
    """What one batch says."""

    losses: Losses
    usage: Usage

    def values(self, experts: Sequence[str]) -> dict[str, Tensor]:
        """Every number by name of its curve; experts: their names in router order."""
        usage = self.usage
        by_expert = {
            f"{field}/{name}": value
            for field, values_E in (("share", usage.share), ("gate", usage.gate))
            for name, value in zip(experts, values_E, strict=True)
        }
        passes = {"passes/chosen": usage.chosen_passes, "passes/extra": usage.extra_passes}
        return {f"loss/{term}": value for term, value in self.losses._asdict().items()} | by_expert | passes


class Objective(nn.Module):
    """A model with what only its training needs: the CLUB estimators and the loss of Eq. 9.

    `total` moves the router and the experts, `estimation` the parameters of `repulsion`. Backpropagate both
    before either optimiser steps. Of several processes each gets its share of the batch, and the value for
    the whole of it: counts, mean gates and unmatched samples are those of all pictures.
    precision: that of encoder and experts; router and losses are float32.
    """

    def __init__(self, model: AnomalyMoE, precision: Precision = "float32") -> None:
        super().__init__()
        self.model = model
        self.precision: Precision = precision
        self.repulsion = InformationRepulsion(model.encoder.width, model.config.counts, model.config.eir)

    def forward(
        self,
        image: Tensor,
        centres_BMD: Tensor,
        valid_BM: Tensor,
        pairs: Sequence[Pair],
        encoded: EncoderOutput | None = None,
    ) -> Outcome:
        """image: normalised (B, 3, H, W), normal pictures only. centres_BMD, valid_BM: as for the model.

        pairs: those that repulsion has chosen, the same for all processes.
        encoded: what the encoder says about the pictures, when it is known already.
        """
        encoded = encoded or self._encode(image)
        masks = self.model.component_masks(encoded.features, centres_BMD, valid_BM)
        router: RouterOutput = self.model.router(encoded.cls)
        whole = set(chain.from_iterable(pairs))
        own_loss_B, pooled = self._run_experts(Scene(image, encoded.features, masks), router, whole)
        reconstruction = gather(own_loss_B).mean()
        everyone = RouterOutput(*(gather(part) for part in router))
        config = self.model.config
        esb = selection_balance(everyone, self.model.router.even_share, config.esb)
        eir = self._repel(pairs, pooled, reconstruction)
        total = reconstruction + config.esb.weight * esb.total + config.eir.weight * eir.repulsion
        losses = Losses(reconstruction, esb.importance, esb.load, esb.z, eir.repulsion, total, eir.estimation)
        return Outcome(losses, _usage(everyone, whole))

    def _encode(self, image: Tensor) -> EncoderOutput:
        with self._autocast(image):
            encoded = self.model.encode(image)
        return EncoderOutput(encoded.features.float(), encoded.cls.float())

    def _autocast(self, image: Tensor) -> torch.autocast:
        return torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _run_experts(
        self, scene: Scene, router: RouterOutput, needed_whole: set[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The first term of Eq. 9 of each picture (B,) and, of `needed_whole`, all pooled outputs (B, D).

        Those see all pictures, since the pairs of Eq. 4 are of the same picture; the others only their own.
        """
        gates_BE = router.dense_gates
        if self.model.config.router.selection == "per_level":
            # Every level is seen anyway: the losses must not teach the router to look away from the harder.
            gates_BE = gates_BE.detach()
        loss_B = gates_BE.new_zeros(len(gates_BE))
        pooled: dict[int, Tensor] = {}
        for column in sorted(needed_whole | set(router.experts.unique().tolist())):
            rows_b = torch.nonzero(router.chosen[:, column]).squeeze(1)
            with self._autocast(scene.image):
                seen = scene if column in needed_whole else scene.take(rows_b)
                output = self.model.run_expert(column, seen)
            own_loss_b = output.loss.float()
            if column in needed_whole:
                pooled[column], own_loss_b = output.pooled.float(), own_loss_b[rows_b]
            loss_B = loss_B.index_add(0, rows_b, gates_BE[rows_b, column] * own_loss_b)
        return loss_B, pooled

    def _repel(self, pairs: Sequence[Pair], pooled: dict[int, Tensor], like: Tensor) -> EirLosses:
        if not pairs:
            zero = torch.zeros_like(like)
            return EirLosses(zero, zero)
        return self.repulsion(pairs, pooled)


def _usage(router: RouterOutput, whole: set[int]) -> Usage:
    chosen_BE = router.chosen
    return Usage(
        share=chosen_BE.mean(0),
        gate=router.dense_gates.detach().mean(0),
        chosen_passes=chosen_BE.sum(1).mean(),
        extra_passes=(1 - chosen_BE[:, sorted(whole)]).sum(1).mean(),
    )


def expert_names(levels: Sequence[Level]) -> list[str]:
    """Level and number within it of each expert, of the levels in router order."""
    return [f"{level}-{levels[:column].count(level)}" for column, level in enumerate(levels)]
