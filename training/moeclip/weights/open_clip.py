"""Pretrained CLIPs: from open_clip's hub cache by name and tag, or from a local file with its names."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import open_clip
from torch import Tensor

from training.moeclip.model.clip import CLIP, resample_positions
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, TextConfig, VisionConfig
from training.moeclip.model.presets import FULL_SIZE, IMAGE_SIZE
from training.runs.foreign import WeightsError, load_strict, read_state

POSITIONS = "visual.positional_embedding"
_HEAD_WIDTH = 64  # of open_clip's vision towers, unless they say otherwise


class HubName(NamedTuple):
    """A CLIP of open_clip: `ViT-L-14-336:openai` is model and tag."""

    model: str = FULL_SIZE
    tag: str = "openai"

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Raises WeightsError unless open_clip knows the model and the tag."""
        model, _, tag = text.partition(":")
        if tag not in open_clip.list_pretrained_tags_by_model(model):
            raise WeightsError(f"{text}: neither a file nor MODEL:TAG of a CLIP that open_clip knows")
        return cls(model, tag)

    def __str__(self) -> str:
        return f"{self.model}:{self.tag}"


def read_clip(source: Path | HubName) -> dict[str, Tensor]:
    """CLIP's weights under open_clip's names, in single precision.

    A hub name is looked up in the hub cache and downloaded once. Raises WeightsError.
    """
    if isinstance(source, Path):
        state = read_state(source)
    else:
        try:
            state = open_clip.create_model(source.model, pretrained=source.tag).state_dict()
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"{source}: {' '.join(str(error).split())}") from error
    return {name: tensor.float() for name, tensor in state.items()}


def load_clip(clip: CLIP, state: Mapping[str, Tensor]) -> None:
    """Fill a CLIP; the position embedding is resampled to the grid of its pictures.

    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    fitted = dict(state)
    try:
        if POSITIONS in state and state[POSITIONS].ndim == 2:
            fitted[POSITIONS] = resample_positions(state[POSITIONS], clip.visual.grid)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    load_strict(clip, fitted)


def model_config(name: str) -> MoECLIPConfig:
    """The paper's settings for a model of open_clip: about 518 pixels, MoE after each quarter of the blocks.

    Raises WeightsError for a model that is not two plain transformers.
    """
    settings = open_clip.get_model_config(name) or {}
    vision, text = settings.get("vision_cfg", {}), settings.get("text_cfg", {})
    if not isinstance(vision.get("layers"), int) or "layers" not in text or not {*vision} <= _PLAIN_VISION:
        raise WeightsError(f"{name}: no CLIP of two plain transformers")
    side = IMAGE_SIZE // vision["patch_size"] * vision["patch_size"]
    depth = vision["layers"]
    clip = CLIPConfig(
        vision=VisionConfig(
            width=vision["width"],
            depth=depth,
            heads=vision["width"] // vision.get("head_width", _HEAD_WIDTH),
            patch_size=vision["patch_size"],
            image_size=(side, side),
        ),
        text=TextConfig(
            width=text["width"],
            depth=text["layers"],
            heads=text["heads"],
            context_length=text["context_length"],
            vocabulary=text["vocab_size"],
        ),
        embedding=settings["embed_dim"],
    )
    return MoECLIPConfig(clip=clip, layers=tuple(depth * quarter // 4 for quarter in (1, 2, 3, 4)))


_PLAIN_VISION = {"image_size", "layers", "width", "patch_size", "head_width"}
