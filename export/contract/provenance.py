"""What a bundle tells about its making: form of the graphs, use of the experts, what was left out, proof."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["patch", "component", "global"]
Format = Literal["onnx", "torchscript"]
Precision = Literal["fp32", "fp16", "int8", "int8-static"]

TOLERANCES: dict[Precision, float | None] = {"fp32": 1e-4, "fp16": 2e-2, "int8": None, "int8-static": None}
"""Largest accepted difference to the torch model, relative to the largest value; int8 is judged by AUROC."""

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt"}


class Frozen(BaseModel):
    """A part of the manifest: unknown fields are refused, nothing is changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AbsentExpert(Frozen):
    """An expert that the bundle does not hold; the other fields are those of `ExpertSpec`."""

    level: Level
    index: int = Field(ge=0)
    column: int = Field(ge=0)
    chosen_by: dict[str, int] = Field(default={})


class LeftOut(Frozen):
    """What the checkpoint has and the bundle has not."""

    experts: tuple[AbsentExpert, ...] = ()
    categories: tuple[str, ...] = ()


class Verification(Frozen):
    """A comparison with the torch model that was within its bounds.

    tolerance: largest accepted difference, None where only the AUROC counts. largest: difference by graph,
    and of `score` and `map` end to end, all relative to the largest value. random, real: pictures compared.
    auroc: by category, image AUROC (0..1) of the torch model with all experts and of the bundle.
    """

    at: datetime
    tolerance: float | None
    largest: dict[str, float]
    random: int = Field(ge=0)
    real: int = Field(ge=0)
    auroc: dict[str, tuple[float, float]] = Field(default={})
    versions: dict[str, str] = Field(default={})
