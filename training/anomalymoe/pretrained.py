"""Pretrained DINOv2 encoders, from timm's hub cache or from a local file."""

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor

from training.anomalymoe.config import ViTConfig
from training.anomalymoe.encoder import VisionTransformer
from training.weights import WeightsError, load_strict, read_state, rename_blocks

# Our name: timm's name and the number of register tokens.
ENCODERS = {
    "dinov2-base": ("vit_base_patch14_dinov2", 0),
    "dinov2-reg-base": ("vit_base_patch14_reg4_dinov2", 4),
}
_UNUSED = ("mask_token", "norm.weight", "norm.bias")


def load_pretrained(
    name: str, path: Path | None = None, image_size: tuple[int, int] = (392, 392)
) -> VisionTransformer:
    """A DINOv2 ViT-B/14 with its pretrained weights.

    name: a key of ENCODERS. path: safetensors or .pth file in timm's or DINOv2's own layout; None takes
    timm's hub cache, which downloads once. image_size: (H, W) pixels, multiples of 14.
    Raises WeightsError for an unknown name or weights that do not fit.
    """
    if name not in ENCODERS:
        raise WeightsError(f"name: unknown encoder {name!r}, known are {', '.join(ENCODERS)}")
    timm_name, registers = ENCODERS[name]
    encoder = VisionTransformer(ViTConfig(image_size=image_size, registers=registers))
    if path is None:
        state = timm.create_model(timm_name, pretrained=True, num_classes=0).state_dict()
    else:
        state = read_state(path)
    load_strict(encoder, from_dinov2(state))
    return encoder


def from_dinov2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's or DINOv2's own layout as weights of VisionTransformer.

    timm folds the position of the cls token of models with registers into the token: its position is then 0.
    """
    converted = {rename_blocks(name): tensor for name, tensor in state.items() if name not in _UNUSED}
    if "reg_token" in converted:
        converted["register_tokens"] = converted.pop("reg_token")
        positions = converted["pos_embed"]
        converted["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return converted
