"""A model small enough for tests: 32-pixel pictures, a 4 x 4 grid, width 16, seven experts."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    ConvConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
)
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.presets import compact_autoencoder
from training.backbones.vit import VisionTransformer, ViTConfig

WIDTH = 16
GRID = (4, 4)
STUDENT = (ConvConfig(channels="width", kernel=8, stride=8, relu=False),)


def vit_config(**changes: Any) -> ViTConfig:
    settings = {
        "width": WIDTH,
        "depth": 4,
        "heads": 2,
        "patch_size": 8,
        "image_size": (32, 32),
        "position_grid": 5,
        "registers": 2,
        "fuse_groups": ((1, 2),),
    }
    return ViTConfig.model_validate(settings | changes)


def model_config(**changes: Any) -> AnomalyMoEConfig:
    settings = {
        "router": RouterConfig(hidden=8, top_k=3),
        "patch": PatchConfig(count=3, depth=2, heads=2),
        "component": ComponentConfig(count=2, hidden=12, code=6),
        "global_": GlobalConfig(count=2, autoencoder=compact_autoencoder(32, code=8), student=STUDENT),
    }
    return AnomalyMoEConfig.model_validate(settings | changes)


def randomised(module: torch.nn.Module, std: float = 0.3) -> torch.nn.Module:
    """Fill all parameters with noise, so that nothing is equal or zero by its initialisation."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std)
    return module


def record_outputs(layers: Iterable[torch.nn.Module]) -> list[Tensor]:
    """A list that the outputs of the layers are added to whenever they run."""
    outputs: list[Tensor] = []

    def record(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    for layer in layers:
        layer.register_forward_hook(record)
    return outputs


def tiny_model(seed: int = 0, vit: ViTConfig | None = None, **changes: Any) -> AnomalyMoE:
    torch.manual_seed(seed)
    model = AnomalyMoE(model_config(**changes), VisionTransformer(vit or vit_config()))
    torch.manual_seed(seed)  # whatever the initialisation took
    randomised(model)
    return model.eval()


@torch.no_grad()
def spread_choices(model: AnomalyMoE, image: Tensor) -> None:
    """Let the router see how the pictures differ, rather than what all of them share."""
    assert isinstance(model.router.gate, torch.nn.Sequential)
    first = model.router.gate[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.mul_(200)
    first.bias.copy_(-first.weight @ model.encode(image).cls.mean(0))


def pictures(batch: int) -> Tensor:
    """Normalised pictures (B, 3, 32, 32)."""
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def centres(batch: int, count: int = 3) -> tuple[Tensor, Tensor]:
    """Component centres (B, M, D) and all of them valid."""
    values = torch.randn(batch, count, WIDTH, generator=torch.Generator().manual_seed(2))
    return values, torch.ones(batch, count, dtype=torch.bool)


def scene_of(model: AnomalyMoE, image: Tensor) -> Scene:
    features = model.encode(image).features
    return Scene(image, features, model.component_masks(features, *centres(len(image))))


def dinov2_layout(encoder: VisionTransformer) -> dict[str, Tensor]:
    """An encoder's weights as DINOv2 names them, with those that we leave out."""
    width = encoder.width
    state = {
        "mask_token": torch.zeros(1, width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    renamed = (("patch_embed.", "patch_embed.proj."), ("scale1", "ls1.gamma"), ("scale2", "ls2.gamma"))
    for ours, tensor in encoder.state_dict().items():
        state[reduce(lambda name, pair: name.replace(*pair), renamed, ours)] = tensor
    return state


def released_layout(model: AnomalyMoE) -> dict[str, Tensor]:
    """A model's weights as the release names and orders them."""
    assert isinstance(model.encoder, VisionTransformer)
    patch, component, global_ = model.config.counts
    released = {f"encoder.{name}": tensor for name, tensor in dinov2_layout(model.encoder).items()}
    names = [
        *(f"patch_experts.{index}" for index in range(patch)),
        *(f"component_experts.{index}" for index in range(component)),
        *(f"global_experts.{index}" for index in range(global_)),
    ]
    for name, expert in zip(names, model.experts, strict=True):
        for rest, tensor in expert.state_dict().items():
            released[f"{name}.{rest.replace('bottleneck.', 'bottleneck.0.')}"] = tensor
    for rest, tensor in model.router.state_dict().items():
        rows = tensor.tensor_split([patch, patch + component]) if rest.startswith("gate.2.") else ()
        released[f"gating_network.{rest}"] = torch.cat([rows[0], rows[2], rows[1]]) if rows else tensor
    return released
