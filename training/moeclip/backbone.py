"""The dual encoder that training starts from: a CLIP and what makes texts into its tokens."""

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from training.moeclip.checkpoint import load_run
from training.moeclip.clip import CLIP
from training.moeclip.config import MoECLIPConfig
from training.weights import WeightsError


class Backbone(NamedTuple):
    """A trained CLIP, the settings of the model that it was made for, and its tokenizer."""

    config: MoECLIPConfig
    clip: CLIP
    tokenizer: Tokenizer


def read_backbone(folder: Path) -> Backbone:
    """The CLIP of a MoECLIP run, as `import-weights` or an earlier training wrote it.

    Raises CheckpointError naming the file that is missing or does not fit.
    """
    run = load_run(folder)
    return Backbone(run.config.model, run.model.clip, run.tokenizer)


def fill_clip(clip: CLIP, backbone: Backbone, config: MoECLIPConfig) -> None:
    """Take over the weights. Raises WeightsError when the settings of a run ask for another CLIP."""
    if config.clip != backbone.config.clip:
        wanted, given = config.clip.model_dump(), backbone.config.clip.model_dump()
        field = next(name for name in wanted if wanted[name] != given[name])
        raise WeightsError(
            f"model.clip.{field}: the settings say {wanted[field]}, the backbone is {given[field]}"
        )
    clip.load_state_dict(backbone.clip.state_dict())
