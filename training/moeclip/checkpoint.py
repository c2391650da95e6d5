"""A MoECLIP run on disk: settings, weights with CLIP's, the tokenizer, and calibrated class names."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator
from safetensors import SafetensorError
from tokenizers import Tokenizer

from export.contract.category import ClassScores, parse_class_scores
from export.contract.manifest import TOKENIZER, InputSpec
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.detector import MoECLIP
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


class RunConfig(BaseModel):
    """What every MoECLIP run says of itself; what a training run says beyond is left unread here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Literal["moeclip"] = "moeclip"
    model: MoECLIPConfig
    input: InputSpec
    map_size: tuple[int, int] = (256, 256)

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        size = (self.input.height, self.input.width)
        if size != self.model.clip.vision.image_size:
            raise ValueError(
                f"input must have the model's size {self.model.clip.vision.image_size}, got {size}"
            )
        return self


AnyConfig = TypeVar("AnyConfig", bound=RunConfig)


@dataclass(frozen=True, eq=False)
class Checkpoint(Generic[AnyConfig]):
    """A run's model in evaluation mode; class_scores may be empty. trained_on: class names, where known."""

    config: AnyConfig
    model: MoECLIP
    tokenizer: Tokenizer
    class_scores: dict[str, ClassScores]
    trained_on: tuple[str, ...] = ()


def save_run(
    folder: Path,
    config: RunConfig,
    model: MoECLIP,
    tokenizer: Tokenizer,
    class_scores: Iterable[ClassScores] = (),
    report: dict[str, Any] | None = None,
) -> None:
    """Write a run; each file replaces the former one at once or not at all, config.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, model)
    write_text(folder / TOKENIZER, tokenizer.to_str(pretty=True) + "\n")
    replace_categories(folder, class_scores)
    write_text(folder / REPORT, json.dumps(report or {}, indent=2) + "\n")
    write_text(folder / CONFIG, config.model_dump_json(indent=2) + "\n")


def load_run(folder: Path, kind: type[AnyConfig] = RunConfig) -> Checkpoint[AnyConfig]:
    """Read a run; kind: which settings it holds, at least a RunConfig.

    Raises CheckpointError naming the file that is missing or does not fit.
    """
    config = read_settings(folder / CONFIG, kind)
    model = MoECLIP(config.model)
    load_weights(folder / WEIGHTS, model)
    tokenizer, scores = read_tokenizer(folder / TOKENIZER), _read_scores(folder)
    return Checkpoint(config, model.eval(), tokenizer, scores, _read_classes(folder))


def read_tokenizer(path: Path) -> Tokenizer:
    """Raises CheckpointError naming the file."""
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{path}: {error}") from error


def _read_classes(folder: Path) -> tuple[str, ...]:
    """The class names that a training run saw; none of an imported one, which does not tell."""
    try:
        return tuple(json.loads((folder / REPORT).read_bytes()).get("classes", ()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / REPORT}: {error}") from error


def _read_scores(folder: Path) -> dict[str, ClassScores]:
    path = folder / CATEGORIES
    try:
        return parse_class_scores(path.read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}") from error
