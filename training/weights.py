"""Foreign weight files, and the released AnomalyMoE layout as weights of our model."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.anomalymoe.config import AnomalyMoEConfig
from training.anomalymoe.detector import AnomalyMoE

_WRAPPER = "module."
# The pretraining's mask token, and the final norm, which neither F_target nor the cls token passes.
_UNUSED = ("encoder.mask_token", "encoder.norm.weight", "encoder.norm.bias")
_ROUTER_OUTPUT = ("gating_network.gate.2.weight", "gating_network.gate.2.bias")
_EXPERT = re.compile(r"^(patch|component|global)_experts\.(\d+)\.")
_RENAMED = (
    (re.compile(r"\bpatch_embed\.proj\."), "patch_embed."),
    (re.compile(r"\.ls([12])\.gamma$"), r".scale\1"),
    (re.compile(r"\.bottleneck\.0\."), ".bottleneck."),
    (re.compile(r"^gating_network\."), "router."),
)


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit; the message names the file or the tensors."""


def read_state(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a safetensors or a .pth file; nothing but tensors is unpickled.

    Raises WeightsError when the file holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: cannot be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: not a flat state dict of tensors")
    return state


def load_released(model: AnomalyMoE, state: Mapping[str, Tensor]) -> None:
    """Fill a model from the released layout, with or without `module.` before every name.

    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    load_strict(model, from_released(state, model.config))


def from_released(state: Mapping[str, Tensor], config: AnomalyMoEConfig) -> dict[str, Tensor]:
    """The released layout under our names, experts and router outputs in our order.

    Raises WeightsError for an expert or a router output that the configuration does not have.
    """
    wrapped = all(name.startswith(_WRAPPER) for name in state)
    converted: dict[str, Tensor] = {}
    for full_name, tensor in state.items():
        name = full_name.removeprefix(_WRAPPER) if wrapped else full_name
        if name not in _UNUSED:
            reordered = _in_our_order(name, tensor, config.counts) if name in _ROUTER_OUTPUT else tensor
            converted[_our_name(name, config.counts)] = reordered
    return converted


def rename_blocks(name: str) -> str:
    """A DINOv2 or released parameter name under the name that our modules use."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load exactly the tensors that the module has. Raises WeightsError naming those that differ."""
    expected = module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    left_over = sorted(state.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    problems = (("missing", missing), ("left over", left_over), ("of another shape", reshaped))
    found = [f"{len(names)} {kind}: {', '.join(names[:5])}" for kind, names in problems if names]
    if found:
        raise WeightsError("; ".join(found))
    module.load_state_dict(dict(state))


def _our_name(name: str, counts: tuple[int, int, int]) -> str:
    match = _EXPERT.match(name)
    if match:
        level, index = ("patch", "component", "global").index(match[1]), int(match[2])
        if index >= counts[level]:
            raise WeightsError(f"{name}: the model has {counts[level]} {match[1]} experts")
        name = f"experts.{sum(counts[:level]) + index}.{name[match.end() :]}"
    return rename_blocks(name)


def _in_our_order(name: str, rows: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Router outputs, released in the order patch, global, component, as patch, component, global."""
    if len(rows) != sum(counts):
        raise WeightsError(f"{name}: {len(rows)} outputs for {sum(counts)} experts")
    patch, component, global_ = counts
    patch_rows, global_rows, component_rows = rows.split([patch, global_, component])
    return torch.cat([patch_rows, component_rows, global_rows])
