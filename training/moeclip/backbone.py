"""The dual encoder that training starts from: a CLIP and what makes texts into its tokens."""

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from training.moeclip.checkpoint import RunConfig, load_run
from training.moeclip.model.clip import CLIP
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.tokenizer import clip_tokenizer
from training.moeclip.weights.open_clip import HubName, load_clip, model_config, read_clip
from training.runs.files import CONFIG, read_settings
from training.runs.foreign import WeightsError


class Backbone(NamedTuple):
    """A trained CLIP, the settings of the model that it was made for, and its tokenizer."""

    config: MoECLIPConfig
    clip: CLIP
    tokenizer: Tokenizer


def read_backbone(source: str, config: MoECLIPConfig | None = None) -> Backbone:
    """The CLIP of a MoECLIP run (its folder), of a file with open_clip's names, or of open_clip by MODEL:TAG.

    config: the settings for a CLIP that brings none; by default the paper's, or those that fit the model. The
    position embedding is resampled for pictures of another size, that of a run, too.
    Raises CheckpointError or WeightsError naming what is missing or does not fit.
    """
    path = Path(source)
    if path.is_dir():
        run = load_run(path)
        own = Backbone(run.config.model, run.model.clip, run.tokenizer)
        return resized(own, config.clip.vision.image_size) if config else own
    name = path if path.is_file() else HubName.parse(source)
    model = config or settings_of(source)
    clip = CLIP(model.clip)
    try:
        load_clip(clip, read_clip(name))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    return Backbone(model, clip, clip_tokenizer(model.clip.text.context_length))


def settings_of(source: str) -> MoECLIPConfig:
    """The settings that a CLIP brings, or the paper's. Raises as `read_backbone`."""
    path = Path(source)
    if path.is_dir():
        return read_settings(path / CONFIG, RunConfig).model
    return MoECLIPConfig() if path.is_file() else model_config(HubName.parse(source).model)


def with_image_size(config: MoECLIPConfig, size: tuple[int, int]) -> MoECLIPConfig:
    """The same model for pictures of another size (H, W). Raises ValueError for one that it cannot see."""
    settings = config.model_dump()
    settings["clip"]["vision"]["image_size"] = size
    return MoECLIPConfig.model_validate(settings)


def resized(backbone: Backbone, size: tuple[int, int]) -> Backbone:
    """The CLIP for pictures of another size (H, W)."""
    if size == backbone.config.clip.vision.image_size:
        return backbone
    config = with_image_size(backbone.config, size)
    clip = CLIP(config.clip)
    load_clip(clip, backbone.clip.state_dict())
    return Backbone(config, clip, backbone.tokenizer)


def fill_clip(clip: CLIP, backbone: Backbone, config: MoECLIPConfig) -> None:
    """Take over the weights. Raises WeightsError when the settings of a run ask for another CLIP."""
    if config.clip != backbone.config.clip:
        wanted, given = config.clip.model_dump(), backbone.config.clip.model_dump()
        field = next(name for name in wanted if wanted[name] != given[name])
        raise WeightsError(
            f"model.clip.{field}: the settings say {wanted[field]}, the backbone is {given[field]}"
        )
    clip.load_state_dict(backbone.clip.state_dict())
