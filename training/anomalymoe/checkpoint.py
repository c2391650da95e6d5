"""A training run on disk: settings as JSON, weights and categories as safetensors; nothing is pickled."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from export.contract.category import Category, load_categories
from training.anomalymoe.fit_config import EncoderConfig, FitConfig
from training.anomalymoe.model.detector import AnomalyMoE
from training.backbones.conv import ConvEncoder, ConvEncoderConfig
from training.backbones.offline.encoder import OfflineEncoder
from training.backbones.vit import VisionTransformer, ViTConfig
from training.runs.files import (
    CATEGORIES,
    CONFIG,
    REPORT,
    WEIGHTS,
    CheckpointError,
    load_weights,
    read_settings,
    replace_categories,
    save_weights,
    write_text,
)


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


def build_encoder(config: EncoderConfig) -> ConvEncoder | OfflineEncoder | VisionTransformer:
    """An encoder of the given size with fresh weights."""
    if isinstance(config, ViTConfig):
        return VisionTransformer(config)
    return ConvEncoder(config) if isinstance(config, ConvEncoderConfig) else OfflineEncoder(config)
