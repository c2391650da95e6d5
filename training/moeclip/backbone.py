"""The dual encoder that training starts from: a CLIP and what makes texts into its tokens."""

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from training.moeclip.checkpoint import load_run
from training.moeclip.model.clip import CLIP
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.tokenizer import clip_tokenizer
from training.moeclip.weights.open_clip import HubName, load_clip, model_config, read_clip
from training.runs.foreign import WeightsError


class Backbone(NamedTuple):
    """A trained CLIP, the settings of the model that it was made for, and its tokenizer."""

    config: MoECLIPConfig
    clip: CLIP
    tokenizer: Tokenizer


def read_backbone(source: str, config: MoECLIPConfig | None = None) -> Backbone:
    """The CLIP of a MoECLIP run (its folder), of a file with open_clip's names, or of open_clip by MODEL:TAG.

    config: the settings for a CLIP that brings none; by default the paper's, or those that fit the model.
    Raises CheckpointError or WeightsError naming what is missing or does not fit.
    """
    path = Path(source)
    if path.is_dir():
        run = load_run(path)
        return Backbone(run.config.model, run.model.clip, run.tokenizer)
    name = path if path.is_file() else HubName.parse(source)
    model = config or (MoECLIPConfig() if isinstance(name, Path) else model_config(name.model))
    clip = CLIP(model.clip)
    try:
        load_clip(clip, read_clip(name))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    return Backbone(model, clip, clip_tokenizer(model.clip.text.context_length))


def fill_clip(clip: CLIP, backbone: Backbone, config: MoECLIPConfig) -> None:
    """Take over the weights. Raises WeightsError when the settings of a run ask for another CLIP."""
    if config.clip != backbone.config.clip:
        wanted, given = config.clip.model_dump(), backbone.config.clip.model_dump()
        field = next(name for name in wanted if wanted[name] != given[name])
        raise WeightsError(
            f"model.clip.{field}: the settings say {wanted[field]}, the backbone is {given[field]}"
        )
    clip.load_state_dict(backbone.clip.state_dict())
