"""Pretrained DINOv2 encoders, from timm's hub cache or from a local file."""

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor

from training.anomalymoe.weights.released import dinov2_name, unused_in_dinov2
from training.backbones.vit import VisionTransformer
from training.runs.foreign import WeightsError, load_strict, read_state

# Our name: timm's name.
ENCODERS = {
    "dinov2-base": "vit_base_patch14_dinov2",
    "dinov2-reg-base": "vit_base_patch14_reg4_dinov2",
}


def load_pretrained(encoder: VisionTransformer, name: str, path: Path | None = None) -> None:
    """Fill an encoder with pretrained weights.

    name: a key of ENCODERS. path: safetensors or .pth file in DINOv2's, timm's or our own layout; None takes
    timm's hub cache, which downloads once.
    Raises WeightsError for an unknown name or weights that do not fit.
    """
    if name not in ENCODERS:
        raise WeightsError(f"name: unknown encoder {name!r}, known are {', '.join(ENCODERS)}")
    if path is None:
        load_dinov2(encoder, timm.create_model(ENCODERS[name], pretrained=True, num_classes=0).state_dict())
        return
    state = read_state(path)
    try:
        if "patch_embed.weight" in state:
            load_strict(encoder, state)
        else:
            load_dinov2(encoder, state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_dinov2(encoder: VisionTransformer, state: Mapping[str, Tensor]) -> None:
    """Fill an encoder from DINOv2's own layout or timm's, which leaves the mask token out.

    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    unused = unused_in_dinov2(encoder.width)
    if "mask_token" not in state:
        del unused["mask_token"]
    load_strict(encoder, _from_timm(state), dinov2_name, unused)


def _from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's names for registers as DINOv2's.

    timm folds the position of the cls token of models with registers into the token: its position is then 0.
    """
    if "reg_token" not in state or "pos_embed" not in state:
        return dict(state)
    cls_position = torch.zeros_like(state["pos_embed"][:, :1])
    renamed = {("register_tokens" if name == "reg_token" else name): one for name, one in state.items()}
    return renamed | {"pos_embed": torch.cat([cls_position, state["pos_embed"]], dim=1)}
