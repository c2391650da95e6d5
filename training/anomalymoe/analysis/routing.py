"""Which experts the router chooses for which category, and with which weight (Figure 4 of the paper).

Legend: n pictures, C categories and their total, E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.analysis.looks import expert_names, look
from training.anomalymoe.checkpoint import Checkpoint
from training.data.pictures import Sample
from training.figures.heatmap import HeatMap
from training.reporting.rows import ALL

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RouterUse:
    """The router's choices on test pictures by category; the last row is that of all pictures.

    shares (C, E): share of the pictures that an expert is chosen for; a row sums to K.
    gates (C, E): mean gate over all pictures, 0 where not chosen; a row sums to 1.
    entropy (C,): mean entropy of the gates of a picture in nats, log K when they are even.
    """

    categories: tuple[str, ...]
    experts: tuple[str, ...]
    levels: tuple[Level, ...]
    shares: Floats
    gates: Floats
    entropy: Floats

    @property
    def level_gates(self) -> Floats:
        """Mean gate of each group of experts, (C, levels in use), as in Figure 4 of the paper."""
        columns = [[one == level for one in self.levels] for level in self.levels_in_use]
        return np.stack([self.gates[:, column].sum(1) for column in columns], axis=1)

    @property
    def levels_in_use(self) -> tuple[Level, ...]:
        """Levels with at least one expert."""
        return tuple(level for level in LEVELS if level in self.levels)

    @property
    def dead(self) -> list[str]:
        """Experts that no picture chose."""
        return [name for name, share in zip(self.experts, self.shares[-1], strict=True) if share == 0]

    @property
    def least_share(self) -> float:
        """Share of the pictures that the least used expert is chosen for."""
        return float(self.shares[-1].min())


def router_use(checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress) -> RouterUse:
    """Let the router choose for every picture; the experts are not run.

    Rows are data sets where the samples are of several, as in the paper, else categories.
    """
    looks = [one.router for one in look(checkpoint, samples, progress, "route")]
    chosen_nE = torch.cat([one.chosen for one in looks]).double().cpu().numpy()
    gates_nE = torch.cat([one.dense_gates for one in looks]).double().cpu().numpy()
    entropy_n = torch.cat([torch.special.entr(one.gates).sum(1) for one in looks]).double().cpu().numpy()
    several = len({one.dataset for one in samples}) > 1
    categories = np.array([(several and one.dataset) or one.category for one in samples])
    names = sorted(set(categories.tolist()))
    groups = [*(categories == name for name in names), np.ones(len(samples), np.bool_)]
    return RouterUse(
        categories=(*names, ALL),
        experts=tuple(expert_names(checkpoint.detector)),
        levels=checkpoint.detector.levels,
        shares=np.stack([chosen_nE[rows].mean(0) for rows in groups]),
        gates=np.stack([gates_nE[rows].mean(0) for rows in groups]),
        entropy=np.array([entropy_n[rows].mean() for rows in groups]),
    )


def routing_heat_maps(use: RouterUse) -> list[HeatMap]:
    """Share and mean gate by category and expert, and mean gate by category and level."""
    gate = "mean gate over the test pictures, 0 where not chosen"
    return [
        HeatMap("share of the test pictures that choose an expert", use.categories, use.experts, use.shares),
        HeatMap(f"{gate}, by expert", use.categories, use.experts, use.gates),
        HeatMap(f"{gate}, by level", use.categories, use.levels_in_use, use.level_gates),
    ]


def routing_json(use: RouterUse) -> dict[str, Any]:
    """By category: expert -> share, expert -> mean gate, level -> mean gate, entropy of the gates; and the
    dead experts.
    """

    def by_category(columns: Sequence[str], values: Floats) -> dict[str, dict[str, float]]:
        rows = (dict(zip(columns, row, strict=True)) for row in values.tolist())
        return dict(zip(use.categories, rows, strict=True))

    return {
        "shares": by_category(use.experts, use.shares),
        "gates": by_category(use.experts, use.gates),
        "level_gates": by_category(use.levels_in_use, use.level_gates),
        "gate_entropy": dict(zip(use.categories, use.entropy.tolist(), strict=True)),
        "dead_experts": use.dead,
        "least_share": use.least_share,
    }
