"""The files that every run leaves on disk."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from export.contract.category import NormalScores, save_categories
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


def replace_categories(folder: Path, categories: Iterable[NormalScores]) -> None:
    """Write the categories of a run, at once or not at all; none when nothing is calibrated yet."""
    part = folder / f"{CATEGORIES}.part"
    save_categories(part, categories)
    part.replace(folder / CATEGORIES)


def read_settings(path: Path, kind: type[Settings], base: Settings | None = None) -> Settings:
    """Settings of one kind; base: what the file leaves out is taken from, at any depth.

    Raises CheckpointError naming the file, and the field when one is wrong.
    """
    text = _read_text(path)
    try:
        return kind.model_validate_json(text if base is None else _laid_over(base, text))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        raise CheckpointError(f"{path}: {field}: {first['msg']}, got {first['input']!r}") from error


def _laid_over(base: BaseModel, text: str) -> str:
    """The settings with what JSON gives in their place; a text that is no JSON object stays as it is."""
    try:
        changes = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_merged(base.model_dump(mode="json"), changes)) if isinstance(changes, dict) else text


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {name for name in changes if isinstance(base.get(name), dict) and isinstance(changes[name], dict)}
    return {**base, **changes, **{name: _merged(base[name], changes[name]) for name in both}}


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
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no text in UTF-8: {error.reason}") from error
