"""Which experts and products a bundle carries, and the detector that knows no others.

Legend: B batch, D width, E experts.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.contract.category import Category
from export.contract.manifest import ExpertSpec
from export.contract.provenance import AbsentExpert, LeftOut
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.router import Router, RouterOutput


@dataclass(frozen=True)
class Selection:
    """What goes into a bundle and what does not."""

    categories: dict[str, Category]
    experts: tuple[ExpertSpec, ...]
    left_out: LeftOut

    @property
    def columns(self) -> tuple[int, ...]:
        """The router columns of the experts that are carried."""
        return tuple(expert.column for expert in self.experts)


class PresentRouter(nn.Module):
    """A router that chooses among some of its experts, by the logits of a router that knows all."""

    absent: Tensor

    def __init__(self, router: Router, columns: Iterable[int]) -> None:
        super().__init__()
        self.router = router
        absent_E = torch.ones(sum(router.counts), dtype=torch.bool)
        absent_E[list(columns)] = False
        self.register_buffer("absent", absent_E, persistent=False)

    def forward(self, cls_BD: Tensor) -> RouterOutput:
        logits_BE = self.router.gate(cls_BD).float()
        return self.router.route(logits_BE.masked_fill(self.absent, -torch.inf))


def expert_specs(
    detector: AnomalyMoE, categories: Mapping[str, Category] | None = None
) -> tuple[ExpertSpec, ...]:
    """Every expert of a detector in router order, numbered within its level, with the use by categories."""
    counted = {name: one.chosen for name, one in (categories or {}).items() if one.chosen is not None}
    specs = []
    for column, level in enumerate(detector.levels):
        index = column - detector.levels.index(level)
        chosen_by = {name: int(chosen[column]) for name, chosen in counted.items()}
        graph = f"expert-{level}-{index}"
        specs.append(ExpertSpec(level=level, index=index, column=column, graph=graph, chosen_by=chosen_by))
    return tuple(specs)


def select(
    detector: AnomalyMoE,
    categories: Mapping[str, Category],
    names: Iterable[str] | None = None,
    *,
    keep_unused: bool = False,
) -> Selection:
    """The named categories (all by default) and the experts that their calibration pictures chose.

    Where a category has no counts, or with keep_unused, all experts stay. Raises ValueError for an unknown
    name.
    """
    wanted = list(categories) if names is None else list(names)
    unknown = [name for name in wanted if name not in categories]
    if unknown or not wanted:
        raise ValueError(
            f"categories: {', '.join(unknown) or 'none'} not among those of the run, {', '.join(categories)}"
        )
    kept = {name: category for name, category in categories.items() if name in wanted}
    experts = expert_specs(detector, kept)
    is_counted = all(category.chosen is not None for category in kept.values())
    used = experts
    if is_counted and not keep_unused:
        used = tuple(expert for expert in experts if any(expert.chosen_by.values()))
    left_out = LeftOut(
        experts=tuple(
            AbsentExpert(**one.model_dump(exclude={"graph"})) for one in experts if one not in used
        ),
        categories=tuple(name for name in categories if name not in kept),
    )
    return Selection(kept, used, left_out)


def with_experts(detector: AnomalyMoE, columns: Iterable[int]) -> AnomalyMoE:
    """The same detector, weights shared, whose router never chooses an expert of another column.

    Raises ValueError when the router could not choose as many as it must.
    """
    present = set(columns)
    if len(present) == len(detector.levels):
        return detector
    router = detector.router.config
    lost = set(detector.levels) - {detector.levels[column] for column in present}
    if router.selection == "per_level" and lost:
        raise ValueError(f"experts: none of level {', '.join(sorted(lost))} is left, one of each is chosen")
    if len(present) < router.top_k:
        raise ValueError(f"experts: {len(present)} are left, {router.top_k} are chosen for each picture")
    reduced = copy.copy(detector)
    reduced._modules = dict(detector._modules)
    reduced._modules["router"] = PresentRouter(detector.router, present)
    return reduced
