"""How much experts of one level repeat each other: linear CKA of their pooled outputs.

Centred kernel alignment, 0 for unrelated and 1 for equal up to a turn and a scale, was chosen over the mean
cosine because all experts rebuild the same features around a common offset, which alone gives a cosine
near 1; and like the mutual information that information repulsion lowers (Eq. 4) it does not change when an
output is turned or scaled. Pictures are compared within their category only: that two experts can tell
products apart is no redundancy. The unbiased estimator (Song et al. 2012, HSIC_1) is used, since with fewer
pictures than channels the plain one finds likeness in noise.
Legend: n pictures of a category, E experts of a level, D width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.analysis.looks import look
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.losses.eir import direction
from training.data.pictures import Sample
from training.figures.heatmap import HeatMap

Floats = npt.NDArray[np.float64]

LEAST_PICTURES = 4  # of a category, for the unbiased estimator
MOST_PICTURES = 200  # every expert sees all of them, chosen or not


def expert_redundancy(
    checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress
) -> dict[Level, Floats]:
    """CKA (E, E) of every two experts of each level in use, on evenly chosen pictures; NaN where undefined.

    Undefined is the likeness to an expert that says the same of every picture.
    """
    probed = samples[:: -(-len(samples) // MOST_PICTURES)]
    pooled_nED = _pooled_outputs(checkpoint, probed, progress)
    categories = np.array([one.category for one in probed])
    groups = [categories == name for name in sorted(set(categories.tolist()))]
    levels = checkpoint.detector.levels
    columns: dict[Level, list[bool]] = {
        level: [one == level for one in levels] for level in LEVELS if level in levels
    }
    return {
        level: linear_cka([pooled_nED[rows][:, members] for rows in groups])
        for level, members in columns.items()
    }


def linear_cka(groups_nED: Sequence[Floats]) -> Floats:
    """Unbiased linear CKA (E, E) of E outputs (n, E, D) of the same pictures, over groups of pictures.

    The HSIC of the groups are added up before they are normalised; groups under LEAST_PICTURES are left out.
    """
    hsic_EE = sum(
        (_unbiased_hsic(group.transpose(1, 0, 2)) for group in groups_nED if len(group) >= LEAST_PICTURES),
        np.zeros((groups_nED[0].shape[1],) * 2),
    )
    size_E = np.sqrt(hsic_EE.diagonal().clip(min=0))
    norm_EE = size_E[:, None] * size_E
    # What is left of rounding when an output never varies is no likeness.
    return np.divide(hsic_EE, norm_EE, out=np.full_like(hsic_EE, np.nan), where=norm_EE > 1e-20)


def mean_redundancy(cka_EE: Floats) -> float | None:
    """Mean over all pairs of different experts; None without a pair for which it is defined."""
    pairs = cka_EE[np.triu_indices(len(cka_EE), k=1)]
    defined = pairs[np.isfinite(pairs)]
    return float(defined.mean()) if len(defined) else None


def redundancy_heat_maps(redundancy: Mapping[Level, Floats], names: Sequence[str]) -> list[HeatMap]:
    """One matrix a level. names: of all experts, in router order."""
    maps = []
    for level, cka_EE in redundancy.items():
        members = [name for name in names if name.startswith(level)]
        title = f"{level} experts: linear CKA of pooled outputs, 1 = they say the same"
        maps.append(HeatMap(title, members, members, cka_EE))
    return maps


def redundancy_json(redundancy: Mapping[Level, Floats]) -> dict[str, dict[str, object]]:
    """By level: the matrix with null where undefined, and its mean over pairs."""
    return {
        level: {
            "cka": [[one if np.isfinite(one) else None for one in row] for row in cka_EE.tolist()],
            "mean": mean_redundancy(cka_EE),
        }
        for level, cka_EE in redundancy.items()
    }


@torch.no_grad()
def _pooled_outputs(checkpoint: Checkpoint, samples: Sequence[Sample], progress: Progress) -> Floats:
    """Directions of the pooled outputs of every expert on every picture, (n, all experts, D)."""
    detector = checkpoint.detector
    batches = [
        torch.stack(
            [direction(detector.run_expert(one, seen.scene).pooled) for one in range(len(detector.levels))], 1
        )
        for seen in look(checkpoint, samples, progress, "compare experts")
    ]
    return torch.cat(batches).double().cpu().numpy()


def _unbiased_hsic(outputs_EnD: Floats) -> Floats:
    """HSIC_1 (E, E) of linear kernels: from Gram matrices without their diagonals."""
    centred_EnD = outputs_EnD - outputs_EnD.mean(1, keepdims=True)  # changes nothing but rounding
    n = centred_EnD.shape[1]
    gram_Enn = centred_EnD @ centred_EnD.transpose(0, 2, 1)
    gram_Enn *= 1 - np.eye(n)
    traces_EE = np.tensordot(gram_Enn, gram_Enn, axes=([1, 2], [1, 2]))
    rows_En = gram_Enn.sum(2)
    totals_E = rows_En.sum(1)
    total_EE = totals_E[:, None] * totals_E / ((n - 1) * (n - 2))
    return (traces_EE + total_EE - 2 / (n - 2) * rows_En @ rows_En.T) / (n * (n - 3))
