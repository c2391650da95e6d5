"""Foreign weight files, and the released AnomalyMoE layout as weights of our model."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

Shape = tuple[int, ...]

_WRAPPER = "module."
_KEPT_AS = ("state_dict", "model")


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit; the message names the file or the tensors."""


def read_state(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a safetensors or a .pth file; nothing but tensors is unpickled.

    The `module.` that data-parallel training puts before every name is taken away; what a training script
    keeps beside a `state_dict` or `model` is passed over.
    Raises WeightsError when the file holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return _unwrapped(load_file(path))
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: cannot be read as weights: {reason}") from error
    entries = content if isinstance(content, dict) else {}
    state = next((entries[name] for name in _KEPT_AS if isinstance(entries.get(name), dict)), entries)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise WeightsError(f"{path}: not a flat state dict of tensors, it holds {_listed(others) or 'none'}")
    return _unwrapped({str(name): tensor for name, tensor in state.items()})


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    foreign_name: Callable[[str], str] = str,
    unused: Mapping[str, Shape] | None = None,
) -> None:
    """Load exactly the tensors that the module has.

    foreign_name: what `state` calls a tensor of the module. unused: further tensors that `state` must hold.
    Raises WeightsError naming, as `state` does, those that differ.
    """
    ours = {foreign_name(name): (name, tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    require_fit(state, {name: shape for name, (_, shape) in ours.items()} | dict(unused or {}))
    module.load_state_dict({ours[name][0]: tensor for name, tensor in state.items() if name in ours})


def require_fit(state: Mapping[str, Tensor], expected: Mapping[str, Shape]) -> None:
    """Raise WeightsError naming the tensors of `state` that are missing, left over or of another shape."""
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {expected[name]}"
        for name in sorted(expected.keys() & state.keys())
        if tuple(state[name].shape) != expected[name]
    ]
    problems = (
        ("missing", sorted(expected.keys() - state.keys())),
        ("left over", sorted(state.keys() - expected.keys())),
        ("of another shape", reshaped),
    )
    found = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in problems if names]
    if found:
        raise WeightsError("; ".join(found))


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wrapped = all(name.startswith(_WRAPPER) for name in state)
    return {name.removeprefix(_WRAPPER) if wrapped else name: tensor for name, tensor in state.items()}


def _listed(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
