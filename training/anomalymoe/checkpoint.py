"""A training run on disk: settings as JSON, weights and categories as safetensors; nothing is pickled."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from export.contract.category import Category, NormalScores, load_categories, save_categories
from training.anomalymoe.fit_config import FitConfig
from training.anomalymoe.model.config import ViTConfig
from training.anomalymoe.model.detector import AnomalyMoE
from training.backbones.offline.encoder import OfflineConfig, OfflineEncoder
from training.backbones.vit import VisionTransformer
from training.reporting.reference import Method

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
CATEGORIES = "categories.safetensors"
REPORT = "report.json"

Settings = TypeVar("Settings", bound=BaseModel)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file."""


class MethodOnly(BaseModel):
    """What the settings of a run of any method tell first."""

    model_config = ConfigDict(extra="ignore")

    method: Method = "anomalymoe"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained and calibrated detector in evaluation mode."""

    config: FitConfig
    detector: AnomalyMoE
    categories: dict[str, Category]


def build_detector(config: FitConfig) -> AnomalyMoE:
    """A detector of the configured size with fresh weights. Raises CheckpointError for impossible ones."""
    try:
        return AnomalyMoE(config.detector, build_encoder(config.encoder))
    except ValueError as error:
        raise CheckpointError(f"settings: {error}") from error


def save_checkpoint(
    folder: Path,
    config: FitConfig,
    detector: AnomalyMoE,
    categories: Iterable[Category],
    report: dict[str, Any],
) -> None:
    """Write a run; each file replaces the former one at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, config.model_dump_json(indent=2) + "\n")
    save_weights(folder / WEIGHTS, detector)
    replace_categories(folder, categories)
    write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")


def replace_categories(folder: Path, categories: Iterable[NormalScores]) -> None:
    """Write the categories of a run, at once or not at all; none when nothing is calibrated yet."""
    part = folder / f"{CATEGORIES}.part"
    save_categories(part, categories)
    part.replace(folder / CATEGORIES)


def load_checkpoint(folder: Path, *, calibrated: bool = True) -> Checkpoint:
    """Read a run; `calibrated`: it must have at least one category.

    Raises CheckpointError naming the file that is missing or does not fit, or that holds no category.
    """
    config = read_config(folder / CONFIG)
    detector = build_detector(config)
    load_weights(folder / WEIGHTS, detector)
    try:
        categories = load_categories(folder / CATEGORIES)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder / CATEGORIES}: {error}") from error
    if calibrated and not categories:
        raise CheckpointError(
            f"{folder / CATEGORIES}: no categories yet; `anomoe-train calibrate {folder}` adds them"
        )
    return Checkpoint(config, detector.eval(), categories)


def read_config(path: Path) -> FitConfig:
    """Raises CheckpointError naming the file, and the field when one is wrong."""
    return read_settings(path, FitConfig)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Settings of one kind. Raises CheckpointError naming the file, and the field when one is wrong."""
    try:
        return kind.model_validate_json(_read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        raise CheckpointError(f"{path}: {field}: {first['msg']}, got {first['input']!r}") from error


def read_method(folder: Path) -> Method:
    """Which method a run is of; settings that name none are AnomalyMoE's. Raises CheckpointError."""
    return read_settings(folder / CONFIG, MethodOnly).method


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's state, at once or not at all."""
    part = path.with_name(f"{path.name}.part")
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, part)
    part.replace(path)


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module; every tensor must be there and none left over. Raises CheckpointError."""
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, at once or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def build_encoder(config: OfflineConfig | ViTConfig) -> OfflineEncoder | VisionTransformer:
    """An encoder of the given size with fresh weights."""
    return VisionTransformer(config) if isinstance(config, ViTConfig) else OfflineEncoder(config)
