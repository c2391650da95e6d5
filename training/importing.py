"""`anomoe-train import-weights`: the released detector, or a DINOv2 encoder, as weights of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training.anomalymoe.config import ViTConfig
from training.anomalymoe.encoder import VisionTransformer
from training.anomalymoe.presets import official_config
from training.anomalymoe.pretrained import load_dinov2
from training.checkpoint import WEIGHTS, build_detector, save_checkpoint, save_weights
from training.config import FitConfig, preset
from training.fit import BACKBONE, BACKBONE_KEY
from training.weights import WeightsError, load_released, read_state

_DETECTOR = ("gating_network.", "patch_experts.", "global_experts.", "component_experts.")
_ENCODER = ("blocks.", "patch_embed.")
_REGISTERS = ("register_tokens", "reg_token", "encoder.register_tokens")


@dataclass(frozen=True)
class Imported:
    """The file that was written, and what it holds."""

    path: Path
    description: str


def import_file(file: Path, output: Path, config: FitConfig | None = None) -> Imported:
    """Write foreign weights into the run `output`.

    config: the settings of the run; by default those of the released detector, or of the encoder's preset.
    Raises WeightsError naming the file, and the tensors that are missing, left over or of another shape.
    """
    state = read_state(file)
    try:
        if any(name.startswith(_DETECTOR) for name in state):
            return _import_detector(state, output, config or released_config(state))
        if any(name.startswith(_ENCODER) for name in state):
            return _import_encoder(state, output, config or _backbone_config(state))
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    found = ", ".join(sorted(state)[:3]) or "nothing"
    raise WeightsError(f"{file}: neither the released detector nor a DINOv2 encoder, it holds {found}")


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
