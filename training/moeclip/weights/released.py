"""The released MoECLIP adapters: their file, their names, and the settings that both tell."""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from training.moeclip.model.adapters import Projection
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.lora_moe import LoRAMoE
from training.runs.foreign import WeightsError, require_fit

PARTS = ("image_adapter", "text_adapter")
_BESIDE = {"epoch", "optimizer_state_dict"}
_LEAKY = re.compile(r"^image_adapter\.seg_proj\.\d+\.fc\.0\.weight$")


def read_released(path: Path) -> dict[str, Tensor] | None:
    """The tensors of an adapter file as `image_adapter.*` and `text_adapter.*`; None for another file.

    Raises WeightsError for an adapter file that holds anything else.
    """
    if path.suffix == ".safetensors":
        return None
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None  # whoever reads it as a state dict says why
    if not isinstance(content, dict) or PARTS[0] not in content:
        return None
    unknown = sorted(str(name) for name in set(content) - {*PARTS, *_BESIDE})
    if unknown or not all(isinstance(content.get(part), dict) for part in PARTS):
        raise WeightsError(
            f"{path}: holds {sorted(map(str, content))} in place of {sorted({*PARTS, *_BESIDE})}"
        )
    return {f"{part}.{name}": tensor for part in PARTS for name, tensor in content[part].items()}


def released_config(state: Mapping[str, Tensor]) -> MoECLIPConfig:
    """The settings of the release: the paper's, with text adapter, GELU and its own prompts.

    Whether LeakyReLU follows the projections is seen from their names.
    """
    return MoECLIPConfig(
        leaky_projection=any(_LEAKY.match(name) for name in state), text_adapter=True, prompts="released"
    )


def load_adapters(model: MoECLIP, state: Mapping[str, Tensor]) -> None:
    """Fill everything but CLIP from the released names.

    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    ours = released_layout(model)
    require_fit(state, {name: tuple(tensor.shape) for name, tensor in ours.items()})
    for name, tensor in ours.items():
        tensor.copy_(state[name])


def released_layout(model: MoECLIP) -> dict[str, Tensor]:
    """The model's own tensors, experts one by one as views of the stacked ones, under the released names."""
    return {name: tensor.detach() for name, tensor in _named(model)}


def _named(model: MoECLIP) -> Iterator[tuple[str, Tensor]]:
    for i, layer in enumerate(model.moe):
        assert isinstance(layer, LoRAMoE)
        yield from _named_moe(f"image_adapter.moe_adapters.{i}", layer)
    for i, projection in enumerate(model.projections):
        assert isinstance(projection, Projection)
        place = "fc.0" if projection.leaky else "fc"
        yield f"image_adapter.seg_proj.{i}.{place}.weight", projection.weight
    adapter = model.image_adapter
    if adapter is None:
        return
    yield "image_adapter.det_proj.ln.weight", adapter.norm.weight
    yield "image_adapter.det_proj.ln.bias", adapter.norm.bias
    yield "image_adapter.det_proj.adapter.0.weight", adapter.depthwise.weight
    yield "image_adapter.det_proj.adapter.2.weight", adapter.pointwise.weight
    if model.text_adapter is not None:
        yield "text_adapter.0.fc.0.weight", model.text_adapter.weight


def _named_moe(prefix: str, layer: LoRAMoE) -> Iterator[tuple[str, Tensor]]:
    rank = layer.config.rank
    yield f"{prefix}.gate.weight", layer.gate.weight
    for k in range(layer.config.experts):
        own = slice(k * rank, (k + 1) * rank)
        yield f"{prefix}.experts.{k}.lora_A.weight", layer.lora_a[own]
        yield f"{prefix}.experts.{k}.lora_B.weight", layer.lora_b[:, own]
