"""What the service is asked and what it answers, as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import (
    BaseModel,
)

from export.contract.manifest import Level
from export.contract.provenance import Format, LeftOut, Precision
from service.schemas.common import ModelRef


class CategoryInfo(BaseModel):
    """A product or calibrated class name, its calibration and the model, by name and kind, that knows it."""

    name: str
    model: str
    kind: str
    threshold: float
    alpha: float
    calibration_size: int


class CategoriesAnswer(BaseModel):
    """Every product the service knows."""

    categories: list[CategoryInfo]


class CalibrationAnswer(BaseModel):
    """Raw scores, ascending, of the normal pictures that a product or class name was calibrated on.

    alpha: the accepted false-positive rate when a request names none.
    """

    name: str
    model: ModelRef
    alpha: float
    scores: list[float]


class ExpertInfo(BaseModel):
    """An expert of a model."""

    level: Level
    index: int


class ZeroShotInfo(BaseModel):
    """How a model turns class names, in the place of {}, into texts, and its threshold for unfitted ones."""

    context_length: int
    normal: list[str]
    abnormal: list[str]
    threshold: float


class PlanInfo(BaseModel):
    """How a model computes.

    source: what says so: a measurement that `anomoe tune` stored, a rule, or the model before a reload.
    threads: of a batch that computes alone; threads_shared: of each of several at once.
    """

    source: Literal["stored", "rule", "reload"]
    batch: int
    parallel: int
    threads: int
    threads_shared: int
    ms_alone: float
    ms_per_picture: float


class ModelInfo(ModelRef):
    """A served model.

    misses_gpu: whether the CPU computes unasked, though the machine or the runtime is one for GPUs.
    """

    kind: str
    device: str
    misses_gpu: bool
    created: datetime
    input_height: int
    input_width: int
    top_k: int
    experts: list[ExpertInfo]
    categories: list[str]
    format: Format
    precision: Precision
    left_out: LeftOut
    zero_shot: ZeroShotInfo | None
    plan: PlanInfo


class ModelsAnswer(BaseModel):
    """Every model the service serves."""

    models: list[ModelInfo]


class HealthAnswer(BaseModel):
    """The state of the service."""

    status: Literal["alive", "ready"]
