"""What happens during training, averaged over some steps: for the report, and as curves for TensorBoard."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from export.contract.manifest import Level
from training.anomalymoe.objective import Losses, Outcome, Usage

LOG_EVERY = 50


class Record:
    """Means of the losses and of the use of the experts over every LOG_EVERY steps.

    folder: of the curves, None for none. experts: their names in router order.
    """

    def __init__(self, folder: Path | None, experts: Sequence[str], steps: int) -> None:
        self.folder, self.experts, self.steps = folder, tuple(experts), steps
        self.losses: list[dict[str, float]] = []
        self._recent: list[Tensor] = []
        self._writer: SummaryWriter | None = None

    def add(self, step: int, outcome: Outcome) -> bool:
        """Take note of a step; says whether it completed a mean."""
        self._recent.append(torch.cat([part.reshape(-1) for group in outcome for part in group]).cpu())
        if step % LOG_EVERY and step != self.steps:
            return False
        means = dict(zip(self._names(), torch.stack(self._recent).mean(0).tolist(), strict=True))
        self._recent.clear()
        terms = {term: means[f"loss/{term}"] for term in Losses._fields}
        passes = {f"passes_{kind}": means[f"passes/{kind}"] for kind in ("chosen", "extra")}
        self.losses.append({"step": float(step), **terms, **passes})
        self._draw(step, means)
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "recent": self._recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self._recent = list(state_dict["losses"]), list(state_dict["recent"])

    def _names(self) -> Iterator[str]:
        """A name for each number of an outcome, in order."""
        yield from (f"loss/{term}" for term in Losses._fields)
        for field in Usage._fields:
            if field in ("share", "gate"):
                yield from (f"{field}/{expert}" for expert in self.experts)
            else:
                yield f"passes/{field.removesuffix('_passes')}"

    def _draw(self, step: int, means: dict[str, float]) -> None:
        if self.folder is None:
            return
        if self._writer is None:
            # What a killed run has drawn beyond the state that is gone on from is drawn again.
            self._writer = SummaryWriter(self.folder, purge_step=step)
        for name, value in means.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Complete the file of the curves."""
        if self._writer is not None:
            self._writer.close()


def expert_names(levels: Sequence[Level]) -> list[str]:
    """Level and number within it of each expert, of the levels in router order."""
    return [f"{level}-{levels[:column].count(level)}" for column, level in enumerate(levels)]
