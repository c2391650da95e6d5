"""Released MoECLIP adapters with their CLIP, or a CLIP alone, as runs of ours."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from export.contract.manifest import InputSpec
from training.moeclip.checkpoint import RunConfig, save_run
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.tokenizer import clip_tokenizer
from training.moeclip.weights.open_clip import HubName, load_clip, model_config, read_clip
from training.moeclip.weights.released import load_adapters, released_config
from training.runs.foreign import WeightsError


def import_adapters(
    adapters: Mapping[str, Tensor], output: Path, config: RunConfig | None, clip: Path | HubName
) -> None:
    """Write released adapters (see `read_released`) and the CLIP they belong to as a run.

    config: by default the settings of the release.
    Raises WeightsError naming the tensors that are missing, left over or of another shape.
    """
    config = config or run_config(released_config(adapters))
    model = MoECLIP(config.model)
    load_adapters(model, adapters)
    try:
        load_clip(model.clip, read_clip(clip))
    except WeightsError as error:
        raise WeightsError(f"{clip}: {error}") from error
    _save(output, config, model, {"imported_tensors": len(adapters), "clip": str(clip)})


def import_clip(state: Mapping[str, Tensor], output: Path, config: RunConfig | None) -> None:
    """Write a CLIP with untrained adapters as a run that training starts from.

    config: by default the paper's settings. Raises WeightsError as `load_clip`.
    """
    config = config or run_config(MoECLIPConfig())
    model = MoECLIP(config.model)
    load_clip(model.clip, state)
    _save(output, config, model, {"imported_tensors": len(state)})


def import_hub_clip(name: HubName, output: Path, config: RunConfig | None) -> None:
    """As `import_clip`, from open_clip's hub cache; by default the settings that fit the model."""
    config = config or run_config(model_config(name.model))
    import_clip(read_clip(name), output, config)


def run_config(model: MoECLIPConfig) -> RunConfig:
    """A run that sees the whole picture at the model's size."""
    height, width = model.clip.vision.image_size
    return RunConfig(model=model, input=InputSpec(height=height, width=width))


def _save(output: Path, config: RunConfig, model: MoECLIP, report: dict[str, str | int]) -> None:
    text = config.model.clip.text
    tokenizer = clip_tokenizer(text.context_length)
    if tokenizer.get_vocab_size() != text.vocabulary:
        raise WeightsError(
            f"model.clip.text.vocabulary: CLIP has {tokenizer.get_vocab_size()}, got {text.vocabulary}"
        )
    save_run(output, config, model, tokenizer, report=report)
