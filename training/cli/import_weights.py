"""`anomoe-train import-weights`: released detectors, DINOv2 encoders and CLIPs as weights of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training.anomalymoe.checkpoint import build_detector, save_checkpoint
from training.anomalymoe.fit import BACKBONE, BACKBONE_KEY
from training.anomalymoe.fit_config import FitConfig, preset
from training.anomalymoe.presets import official_config
from training.anomalymoe.weights.pretrained import load_dinov2
from training.anomalymoe.weights.released import load_released
from training.backbones.vit import VisionTransformer, ViTConfig
from training.moeclip.checkpoint import RunConfig
from training.moeclip.importing import import_adapters, import_clip, import_hub_clip
from training.moeclip.weights.open_clip import HubName
from training.moeclip.weights.released import read_released
from training.runs.files import WEIGHTS, MethodOnly, Settings, read_settings, save_weights
from training.runs.foreign import WeightsError, read_state

_DETECTOR = ("gating_network.", "patch_experts.", "global_experts.", "component_experts.")
_ENCODER = ("blocks.", "patch_embed.")
_CLIP = ("visual.",)
_REGISTERS = ("register_tokens", "reg_token", "encoder.register_tokens")


@dataclass(frozen=True)
class Imported:
    """The file that was written, and what it holds."""

    path: Path
    description: str


def read_run_settings(path: Path) -> RunConfig | FitConfig:
    """Settings of either method. Raises CheckpointError naming the file, and the field when one is wrong."""
    is_moeclip = read_settings(path, MethodOnly).method == "moeclip"
    return read_settings(path, RunConfig if is_moeclip else FitConfig)


def import_file(
    file: Path,
    output: Path,
    config: RunConfig | FitConfig | None = None,
    clip: Path | HubName | None = None,
) -> Imported:
    """Write foreign weights into the run `output`.

    config: the settings of the run; by default those of the release, or of the encoder's preset. clip: of
    MoECLIP adapters, by default OpenAI's from the hub cache.
    Raises WeightsError naming the file, and the tensors that are missing, left over or of another shape.
    """
    adapters = read_released(file)
    state = read_state(file) if adapters is None else adapters
    try:
        if adapters is not None:
            import_adapters(adapters, output, _settings(config, RunConfig), clip or HubName())
            return Imported(output / WEIGHTS, f"released MoECLIP adapters, {_size(state)}, and their CLIP")
        if any(name.startswith(_DETECTOR) for name in state):
            return _import_detector(state, output, _settings(config, FitConfig) or released_config(state))
        if any(name.startswith(_ENCODER) for name in state):
            return _import_encoder(state, output, _settings(config, FitConfig) or _backbone_config(state))
        if any(name.startswith(_CLIP) for name in state):
            import_clip(state, output, _settings(config, RunConfig))
            return Imported(
                output / WEIGHTS, f"CLIP, {_size(state)}; adapters untrained, see fit --method moeclip"
            )
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    found = ", ".join(sorted(state)[:3]) or "nothing"
    raise WeightsError(
        f"{file}: neither a released detector nor a DINOv2 encoder nor a CLIP, it holds {found}"
    )


def import_from_hub(name: str, output: Path, config: RunConfig | FitConfig | None = None) -> Imported:
    """Write a CLIP of open_clip, MODEL:TAG, as a run. Raises WeightsError."""
    import_hub_clip(HubName.parse(name), output, _settings(config, RunConfig))
    return Imported(output / WEIGHTS, f"CLIP {name}; adapters untrained, see fit --method moeclip")


def _settings(config: RunConfig | FitConfig | None, kind: type[Settings]) -> Settings | None:
    if config is None or isinstance(config, kind):
        return config
    raise WeightsError(f"settings of the other method: {type(config).__name__} in place of {kind.__name__}")


def released_config(state: Mapping[str, Tensor]) -> FitConfig:
    """The settings of the released detector: 539 M parameters, and scores from the student networks."""
    config, detector = _backbone_config(state), official_config()
    scored_by_student = detector.global_.model_copy(update={"scoring": "student"})
    detector = detector.model_copy(update={"global_": scored_by_student})
    return config.model_copy(update={"detector": detector})


def _backbone_config(state: Mapping[str, Tensor]) -> FitConfig:
    has_registers = any(name in state for name in _REGISTERS)
    return preset("dinov2-reg-base" if has_registers else "dinov2-base")


def _import_detector(state: Mapping[str, Tensor], output: Path, config: FitConfig) -> Imported:
    detector = build_detector(config)
    load_released(detector, state)
    save_checkpoint(output, config, detector, [], {"imported_tensors": len(state)})
    return Imported(output / WEIGHTS, f"released detector, {_size(state)}; no products yet, see calibrate")


def _import_encoder(state: Mapping[str, Tensor], output: Path, config: FitConfig) -> Imported:
    if not isinstance(config.encoder, ViTConfig):
        raise WeightsError(f"holds a DINOv2 encoder, the settings are those of backbone {config.backbone!r}")
    encoder = VisionTransformer(config.encoder)
    load_dinov2(encoder, state)
    output.mkdir(parents=True, exist_ok=True)
    (output / BACKBONE_KEY).unlink(missing_ok=True)  # of an offline backbone that was here before
    save_weights(output / BACKBONE, encoder)
    return Imported(output / BACKBONE, f"encoder of backbone {config.backbone!r}, {_size(state)}")


def _size(state: Mapping[str, Tensor]) -> str:
    parameters = sum(tensor.numel() for tensor in state.values())
    return f"{len(state)} tensors, {parameters / 1e6:.2f} M parameters"
