"""Multiply-accumulate operations of one picture, counted part by part on the meta device, without weights.

Counted are convolutions and matrix products, linear attention included; norms, activations and resampling
multiply too, but are far below one percent.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch.fx.experimental import _config as fx_config

from export.contract.manifest import LEVELS, Level
from training.anomalymoe.checkpoint import build_detector
from training.anomalymoe.fit_config import FitConfig
from training.anomalymoe.model.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.model.global_ import GlobalExpert
from training.anomalymoe.model.head import Head
from training.reporting.macs import counted, in_words


@dataclass(frozen=True)
class Macs:
    """MACs of each part for one picture, and what they come to.

    masks: patches to component centres. experts: ONE expert of each level in use. student: what the second
    network of a global expert needs, which is part of its expert only if it scores. least, most: the cheapest
    and the dearest choice the router may make; dense: all experts.
    """

    encoder: int
    router: int
    masks: int
    head: int
    experts: dict[Level, int]
    student: int | None
    least: int
    most: int
    dense: int


def count_macs(config: FitConfig) -> Macs:
    """Count a configuration of any size; nothing is computed, no weights are held.

    Parts of components are counted as if every patch were one.
    """
    most_parts = fx_config.patch(meta_nonzero_assume_all_nonzero=True)  # pyright: ignore[reportAttributeAccessIssue]
    with torch.device("meta"), torch.no_grad(), most_parts:
        detector = build_detector(config).eval()
        head = Head(config.map_size, detector.encoder.grid)
        image = torch.empty(1, 3, config.input.height, config.input.width)
        centres = torch.empty(1, config.calibration.components, detector.encoder.width)
        valid = torch.ones(1, config.calibration.components, dtype=torch.bool)
        encoded, encoder = counted(lambda: detector.encode(image))
        routed, router = counted(lambda: detector.router(encoded.cls))
        masks_BMhw, masks = counted(lambda: detector.component_masks(encoded.features, centres, valid))
        experts, student = _expert_macs(detector, Scene(image, encoded.features, masks_BMhw))
        errors = torch.empty(1, len(detector.experts), *detector.encoder.grid)
        detection = Detection.chosen(routed, errors)
        _, combined = counted(lambda: head(detector.level_maps(detection, errors, errors)))
    shared = encoder + router + masks + combined
    least, most = _extremes(detector, experts)
    dense = shared + sum(experts[level] for level in detector.levels)
    return Macs(encoder, router, masks, combined, experts, student, shared + least, shared + most, dense)


def macs_on_average(macs: Macs, levels: Sequence[Level], shares_E: Sequence[float]) -> float:
    """MACs of a picture when each expert, of the given level, is chosen by that share of the pictures."""
    shared = macs.encoder + macs.router + macs.masks + macs.head
    return shared + sum(share * macs.experts[level] for level, share in zip(levels, shares_E, strict=True))


def macs_table(macs: Macs) -> Table:
    """One row a part, then what the parts of a whole pass come to."""
    table = Table("part (one expert of a kind)", "MACs a picture")
    table.columns[1].justify = "right"
    parts = {"encoder": macs.encoder, "router": macs.router, "component masks": macs.masks}
    parts |= {f"{level} expert": count for level, count in macs.experts.items()}
    if macs.student is not None:
        parts["student of a global expert"] = macs.student
    for name, count in (parts | {"head": macs.head}).items():
        table.add_row(name, in_words(count))
    table.add_section()
    table.add_row("sparse, cheapest choice", in_words(macs.least))
    table.add_row("sparse, dearest choice", in_words(macs.most))
    table.add_row("dense, all experts", in_words(macs.dense))
    return table


def macs_json(macs: Macs) -> dict[str, Any]:
    """The counts as they are, ready for JSON."""
    return asdict(macs)


def _expert_macs(detector: AnomalyMoE, scene: Scene) -> tuple[dict[Level, int], int | None]:
    """One expert of each level, and the student if there is one."""
    experts = {}
    student = None
    for level in LEVELS:
        if level not in detector.levels:
            continue
        column = detector.levels.index(level)
        expert = detector.experts[column]
        _, experts[level] = counted(lambda column=column: detector.run_expert(column, scene))
        if isinstance(expert, GlobalExpert) and expert.student is not None:
            _, student = counted(lambda network=expert.student: network(scene.image))
            if expert.scoring == "target":  # then only the loss needs it
                experts[level] -= student
    return experts, student


def _extremes(detector: AnomalyMoE, experts: dict[Level, int]) -> tuple[int, int]:
    """What the chosen experts of one picture need at least and at most."""
    config = detector.config.router
    if config.selection == "per_level":
        return sum(experts.values()), sum(experts.values())
    ascending = sorted(experts[level] for level in detector.levels)
    return sum(ascending[: config.top_k]), sum(ascending[-config.top_k :])
