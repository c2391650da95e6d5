"""What happens during training, averaged over some steps: for the report, and as curves for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

LOG_EVERY = 50
LOSS = "loss/"  # curves that go into the report too


class Record:
    """Means of what each step says, over every LOG_EVERY steps; folder: of the curves, None for none.

    losses: by step, those of the loss terms. latest: all of the last ones.
    """

    def __init__(self, folder: Path | None, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.losses: list[dict[str, float]] = []
        self.latest: dict[str, float] = {}
        self._recent: list[Tensor] = []
        self._writer: SummaryWriter | None = None

    def add(self, step: int, values: Mapping[str, Tensor]) -> bool:
        """Take note of a step; says whether it completed a mean.

        values: one number by name of the curve, the same names in every step.
        """
        self._recent.append(torch.stack([one.detach() for one in values.values()]).cpu())
        if step % LOG_EVERY and step != self.steps:
            return False
        means = dict(zip(values, torch.stack(self._recent).mean(0).tolist(), strict=True))
        self._recent.clear()
        terms = {name.removeprefix(LOSS): mean for name, mean in means.items() if name.startswith(LOSS)}
        self.losses.append({"step": float(step), **terms})
        self.latest = means
        self._draw(step, means)
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "recent": self._recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self._recent = list(state_dict["losses"]), list(state_dict["recent"])

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
