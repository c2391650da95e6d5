"""The names that released AnomalyMoE and DINOv2 weights have."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.anomalymoe.model.detector import AnomalyMoE
from training.runs.foreign import Shape, load_strict

_ROUTER_OUTPUT = ("gating_network.gate.2.weight", "gating_network.gate.2.bias")
_EXPERT = re.compile(r"^experts\.(\d+)\.")
_RENAMED = (
    (re.compile(r"\bpatch_embed\."), "patch_embed.proj."),
    (re.compile(r"\.scale([12])$"), r".ls\1.gamma"),
    (re.compile(r"\.bottleneck\."), ".bottleneck.0."),
    (re.compile(r"^router\."), "gating_network."),
)


def load_released(model: AnomalyMoE, state: Mapping[str, Tensor]) -> None:
    """Fill a model from the released layout; the encoder's unused tensors must be there too.

    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    unused = {f"encoder.{name}": shape for name, shape in unused_in_dinov2(model.encoder.width).items()}
    counts = model.config.counts
    ordered = {
        name: _in_our_order(tensor, counts) if name in _ROUTER_OUTPUT else tensor
        for name, tensor in state.items()
    }
    load_strict(model, ordered, lambda name: _released_name(name, counts), unused)


def dinov2_name(name: str) -> str:
    """The name that DINOv2, and the release, give to a parameter of one of our modules."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def unused_in_dinov2(width: int) -> dict[str, Shape]:
    """The pretraining's mask token, and the final norm, which neither F_target nor the cls token passes."""
    return {"mask_token": (1, width), "norm.weight": (width,), "norm.bias": (width,)}


def _released_name(name: str, counts: tuple[int, int, int]) -> str:
    match = _EXPERT.match(name)
    if match:
        index = int(match[1])
        for level, count in zip(("patch", "component", "global"), counts, strict=True):
            if index < count:
                return dinov2_name(f"{level}_experts.{index}.{name[match.end() :]}")
            index -= count
    return dinov2_name(name)


def _in_our_order(rows: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Router outputs, released in the order patch, global, component, as patch, component, global.

    Rows of another number are left as they are: their shape will not fit.
    """
    patch, component, global_ = counts
    if rows.ndim == 0 or len(rows) != sum(counts):
        return rows
    patch_rows, global_rows, component_rows = rows.split([patch, global_, component])
    return torch.cat([patch_rows, component_rows, global_rows])
