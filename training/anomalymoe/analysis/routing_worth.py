"""What routing is worth: the figures of the same experts when they are chosen otherwise.

Legend: B batch, V width of cls, E experts, K chosen ones.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from rich.progress import Progress
from torch import Tensor, nn

from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.evaluation.evaluate import score_samples
from training.anomalymoe.model.router import Router, RouterOutput
from training.data.dataset import Place
from training.data.pictures import Sample
from training.reporting.measuring import measure
from training.reporting.rows import ALL, Row
from training.reporting.scored import Scored

Choice = Literal["learned", "random", "fixed", "all"]


class OtherRouter(nn.Module):
    """Chooses by the router's own rule, but from other logits, and weights alike.

    random: logits are drawn anew for each picture. fixed: those experts that calibration pictures of the
    product chose most often, `often_E`, whatever the picture. all: every expert.
    """

    def __init__(self, router: Router, choice: Choice, often_E: Tensor) -> None:
        super().__init__()
        self.router, self.choice, self.often_E = router, choice, often_E
        self.random = torch.Generator().manual_seed(0)

    def forward(self, cls_BV: Tensor) -> RouterOutput:
        logits_BE = self.often_E.float().expand(len(cls_BV), -1)
        if self.choice == "random":
            logits_BE = torch.rand(logits_BE.shape, generator=self.random)
        logits_BE = logits_BE.to(cls_BV.device)
        experts_BK = self.router.route(logits_BE).experts
        if self.choice == "all":
            experts_BK = torch.arange(logits_BE.shape[1], device=cls_BV.device).expand_as(logits_BE)
        gates_BK = torch.full(experts_BK.shape, 1 / experts_BK.shape[1], device=cls_BV.device)
        return RouterOutput(logits_BE, experts_BK, gates_BK)


def routing_worth(checkpoint: Checkpoint, data: Place, progress: Progress) -> dict[Choice, Row]:
    """Figures of all defects, as a mean over the categories, for each way to choose experts.

    Raises DataError when there are no test pictures, or of a category the checkpoint does not know.
    """
    return {choice: _all_defects(checkpoint, data, progress, choice) for choice in get_args(Choice)}


def _all_defects(checkpoint: Checkpoint, data: Place, progress: Progress, choice: Choice) -> Row:
    own = checkpoint.detector.router

    def score(members: Sequence[Sample]) -> Scored:
        if choice != "learned":
            often_E = torch.from_numpy(checkpoint.categories[members[0].category].chosen)
            checkpoint.detector.register_module("router", OtherRouter(own, choice, often_E))
        try:
            return score_samples(checkpoint, members, progress)
        finally:
            checkpoint.detector.register_module("router", own)

    rows = measure(score, data, checkpoint.config.input, checkpoint.categories)
    return [row for row in rows if row.defects == ALL][-1]
