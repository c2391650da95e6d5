"""What the experts of each MoE layer do with the patches of pictures.

Legend: n pictures, B pictures of a batch, L MoE layers, N patches, K experts, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from training.data.pictures import Sample, load_picture
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.lora_moe import MoEOutput, top_gates
from training.runs.files import CheckpointError

BATCH = 8


class Observation(NamedTuple):
    """The choices of every picture, patches only.

    shares (n, L, K): of the choices of the patches, Top-k each; a row sums to 1.
    first (n, L, N): the expert with the highest probability, and confidence (n, L, N) that probability.
    similarity (n, L, K, K): cosine of what two experts say, each on average over the patches that chose it
    (supplement F.2 of the MoECLIP paper); NaN for an expert that no patch of the picture chose.
    """

    shares: Tensor
    first: Tensor
    confidence: Tensor
    similarity: Tensor


@torch.inference_mode()
def observe(run: Checkpoint[RunConfig], samples: Sequence[Sample], progress: Progress) -> Observation:
    """Look at pictures through all experts. Raises CheckpointError for a run without experts."""
    moe = run.config.model.moe
    if moe is None:
        raise CheckpointError("model.moe: the run was trained without experts, there is nothing to see")
    parts: list[Observation] = []
    for start in progress.track(range(0, len(samples), BATCH), description="look at experts"):
        batch = samples[start : start + BATCH]
        pixels = np.stack([load_picture(one.path, run.config.input) for one in batch])
        seen = run.model(run.model.normalise(torch.from_numpy(pixels)), by_expert=True)
        layers = [observe_layer(one, moe.top_k) for one in seen.moe]
        parts.append(Observation(*(torch.stack(column, 1).cpu() for column in zip(*layers, strict=True))))
    return Observation(*(torch.cat(column) for column in zip(*parts, strict=True)))


def observe_layer(output: MoEOutput, top_k: int) -> Observation:
    """The same of one layer and batch, without the axis L; output: of a pass by expert, [cls] first."""
    assert output.expert_outputs is not None
    probabilities_BNK = output.probabilities[:, 1:]
    chosen_BNK = (top_gates(probabilities_BNK, top_k) > 0).float()
    confidence_BN, first_BN = probabilities_BNK.max(-1)
    return Observation(
        shares=chosen_BNK.mean(1) / top_k,
        first=first_BN,
        confidence=confidence_BN,
        similarity=expert_similarity(output.expert_outputs[:, 1:], chosen_BNK),
    )


def expert_similarity(outputs_BNKD: Tensor, chosen_BNK: Tensor) -> Tensor:
    """Cosine (B, K, K) of the mean outputs over the patches that chose each expert; NaN where none did."""
    count_BK = chosen_BNK.sum(1)
    mean_BKD = (outputs_BNKD * chosen_BNK.unsqueeze(-1)).sum(1) / count_BK.clamp(min=1).unsqueeze(-1)
    unit_BKD = F.normalize(mean_BKD, dim=-1)
    known_BK1 = torch.where(count_BK > 0, 1.0, torch.nan).unsqueeze(-1)
    return (unit_BKD @ unit_BKD.transpose(1, 2)) * known_BK1 * known_BK1.transpose(1, 2)
