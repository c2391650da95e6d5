"""`anomoe-train analyse` of a MoECLIP run: use, patches and likeness of the experts, layer by layer.

Legend: n pictures, L MoE layers, N patches, K experts, C classes and their total.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import Progress
from rich.table import Table

from training.data.dataset import Place, find_samples
from training.data.pictures import DataError, Sample
from training.device import on_training_device
from training.figures.heatmap import HeatMap, draw_below_each_other
from training.figures.sheet import one_of_each
from training.moeclip.analysis.cost import measure_cost
from training.moeclip.analysis.grad_cam import grad_cams
from training.moeclip.analysis.map_sheets import draw_maps, patch_gates
from training.moeclip.analysis.observation import Observation, observe
from training.moeclip.analysis.patch_maps import CHOSEN, FIRST, GRAD_CAM, draw_patches
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.reporting.rows import ALL
from training.runs.files import write_text

Floats = npt.NDArray[np.float64]

USE, SIMILARITY, FIGURES = "expert_use.png", "expert_similarity.png", "analysis.json"
MAPS, MAPS_BY_LAYER = "maps.png", "maps_by_layer.png"


@dataclass(frozen=True, eq=False)
class Analysis:
    """layers: 1-based blocks. classes: with ALL last. use (L, C, K): shares of the choices, rows sum to 1.

    similarity (L, K, K): mean cosine over the pictures, NaN where never defined. confidence (L, K): mean
    probability of an expert at the patches that it is the first choice of, NaN where there are none.
    """

    layers: tuple[int, ...]
    classes: tuple[str, ...]
    use: Floats
    similarity: Floats
    confidence: Floats

    @property
    def mean_similarity(self) -> list[float]:
        """Mean over all pairs of different experts, of each layer."""
        rows, columns = np.triu_indices(self.similarity.shape[1], k=1)
        return [_mean(one[rows, columns]) for one in self.similarity]


def analyse(run: Checkpoint[RunConfig], data: Place, output: Path, progress: Progress) -> Analysis:
    """Look at all test pictures and write figures and `analysis.json` into the folder `output`.

    Raises DataError when there are none, CheckpointError for a run without experts.
    """
    samples = [one for one in find_samples(data) if one.split == "test"]
    if not samples:
        raise DataError(f"{data}: no test pictures (test/<kind>) found")
    shown = one_of_each(samples) or list(samples[:1])
    output.mkdir(parents=True, exist_ok=True)
    with on_training_device(run.model):
        seen = observe(run, samples, progress)
        _draw_experts(run, shown, seen.first[[samples.index(one) for one in shown]].numpy(), output)
        sheets = draw_maps(run, shown)
    for name, sheet in zip((MAPS, MAPS_BY_LAYER), sheets, strict=True):
        sheet.save(output / name, optimize=True)
    found = summarise(seen, group_names(samples), run.config.model.layers)
    draw_below_each_other(use_heat_maps(found)).save(output / USE, optimize=True)
    draw_below_each_other(similarity_heat_maps(found)).save(output / SIMILARITY, optimize=True)
    content = analysis_json(found) | {"cost": measure_cost(run)._asdict()}
    write_text(output / FIGURES, json.dumps(content, indent=2) + "\n")
    return found


def _draw_experts(
    run: Checkpoint[RunConfig], shown: Sequence[Sample], first_nLN: npt.NDArray[np.int64], output: Path
) -> None:
    """By layer: the patches whose first choice is an expert, those that choose it, and its Grad-CAM."""
    layers = zip(run.config.model.layers, patch_gates(run, shown), grad_cams(run, shown), strict=True)
    for number, (layer, gates_nNK, cams_nNK) in enumerate(layers):
        experts = np.arange(gates_nNK.shape[2])
        weights = [f"expert {one} ({gates_nNK[..., one].mean():.2f})" for one in experts]
        first_nNK = first_nLN[:, number, :, None] == experts
        sheets = {
            "patches": draw_patches(run.config, shown, first_nNK, FIRST, weights),
            "choices": draw_patches(run.config, shown, gates_nNK > 0, CHOSEN),
            "grad_cam": draw_patches(run.config, shown, cams_nNK, GRAD_CAM),
        }
        for name, sheet in sheets.items():
            sheet.save(output / f"{name}_layer_{layer}.png", optimize=True)


def group_names(samples: Sequence[Sample]) -> list[str]:
    """What pictures are grouped by: data sets where there are several (Figure 9), else classes."""
    if len({one.dataset for one in samples}) > 1:
        return [one.dataset or class_name(one) for one in samples]
    return [class_name(one) for one in samples]


def summarise(seen: Observation, names: Sequence[str], layers: tuple[int, ...]) -> Analysis:
    """Means over the pictures, by class; names: that of each picture."""
    classes = sorted(set(names))
    groups = [*(np.array([name == one for name in names]) for one in classes), np.ones(len(names), np.bool_)]
    shares_nLK, similarity_nLKK = seen.shares.double().numpy(), seen.similarity.double().numpy()
    experts = range(shares_nLK.shape[2])
    first_nLN, confidence_nLN = seen.first.numpy(), seen.confidence.double().numpy()
    return Analysis(
        layers=layers,
        classes=(*classes, ALL),
        use=np.stack([shares_nLK[rows].mean(0) for rows in groups], axis=1),
        similarity=np.apply_along_axis(_mean, 0, similarity_nLKK),
        confidence=np.array(
            [
                [_mean(confidence_nLN[:, layer][first_nLN[:, layer] == expert]) for expert in experts]
                for layer in range(len(layers))
            ]
        ),
    )


def use_heat_maps(found: Analysis) -> list[HeatMap]:
    """Share of the choices by class and expert, of each layer (Figure 9 of the MoECLIP paper)."""
    return [
        HeatMap(f"layer {layer}: share of the patches' choices", found.classes, _experts(found), use_CK)
        for layer, use_CK in zip(found.layers, found.use, strict=True)
    ]


def similarity_heat_maps(found: Analysis) -> list[HeatMap]:
    """Cosine of what two experts say, of each layer (Figure 10)."""
    names = _experts(found)
    return [
        HeatMap(f"layer {layer}: cosine of what two experts say, mean {mean:.2f}", names, names, one, low=-1)
        for layer, one, mean in zip(found.layers, found.similarity, found.mean_similarity, strict=True)
    ]


def summary_table(found: Analysis) -> Table:
    """By layer: the least used expert, and the mean similarity."""
    table = Table("layer", "least used expert", "its share", "mean similarity of two experts")
    for layer, use_CK, mean in zip(found.layers, found.use, found.mean_similarity, strict=True):
        least = int(use_CK[-1].argmin())
        table.add_row(str(layer), str(least), f"{use_CK[-1, least]:.2f}", f"{mean:.2f}")
    return table


def analysis_json(found: Analysis) -> dict[str, Any]:
    """By layer: use by class, similarity, its mean over pairs, and confidence; null where undefined."""
    return {
        f"layer {layer}": {
            "use": dict(zip(found.classes, found.use[row].tolist(), strict=True)),
            "similarity": [_known(one) for one in found.similarity[row]],
            "mean_similarity": _known([found.mean_similarity[row]])[0],
            "confidence": _known(found.confidence[row]),
        }
        for row, layer in enumerate(found.layers)
    }


def _experts(found: Analysis) -> list[str]:
    return [f"expert {number}" for number in range(found.use.shape[2])]


def _mean(values: Floats) -> float:
    """Mean of what is defined, NaN where nothing is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _known(values: Iterable[float]) -> list[float | None]:
    return [float(one) if np.isfinite(one) else None for one in values]
