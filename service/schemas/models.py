"""What the service is asked and what it answers, as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    field_serializer,
)

from export.contract.manifest import InputSpec, Level
from export.contract.names import Name
from export.contract.provenance import Format, LeftOut, Precision
from service.errors import ProblemAnswer
from service.schemas.findings import CategorySource, LevelShare, MapEncoding, Reason, Region, Selected


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


Number = Annotated[float, BeforeValidator(_no_bool)]
"""As JSON has it, where true is none."""


class PictureParameters(BaseModel):
    """What a picture does not tell of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bit_depth: int | None = Field(
        default=None,
        ge=8,
        le=16,
        description="bits that are used of samples of more than 8, whatever the picture says of them",
    )

    def read_as(self, spec: InputSpec) -> InputSpec:
        """How a model's pictures are read, with what the request says of this one."""
        return spec.model_copy(update={"bit_depth": self.bit_depth}) if self.bit_depth else spec


class MapParameters(PictureParameters):
    """The form of an anomaly map."""

    map: Literal[MapEncoding, "none"] = Field(default="png", description="form of the anomaly map")
    map_size: Literal["input", "model"] = Field(
        default="input", description="the size of the picture, or that which the model computes"
    )


class DetectParameters(MapParameters):
    """Parameters of a detection, from the query, form fields or JSON fields."""

    category: Name | None = Field(
        default=None, description="product; recognised from the picture when absent"
    )
    alpha: Number | None = Field(default=None, gt=0, lt=1, description="accepted false-positive rate")
    regions: bool = Field(default=True, description="whether to list the anomalous regions")


class ModelRef(BaseModel):
    """Which model answered."""

    name: str
    version: str
    digest: str


class Answer(BaseModel):
    """What the description of the API tells of an answer: the text below each field."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class MapAnswer(Answer):
    """The anomaly map."""

    encoding: MapEncoding
    width: int
    height: int
    data: str
    """base64 of a PNG, with grey above 127 (of 16 bits 32767) where it is anomalous, or of an npy file."""

    @field_serializer("data")
    def _written(self, data: str, info: FieldSerializationInfo[list[str] | None]) -> str:
        """With a list as the context the data joins it, and is left out here."""
        if info.context is None:
            return data
        info.context.append(data)
        return ""


class DetectAnswer(Answer):
    """The verdict on one picture. An unknown product is anomalous, without score, p_value and threshold."""

    request_id: str
    """That of the request, also in the header X-Request-ID and in the log."""
    model: ModelRef
    category: str | None
    """The product, null when it is unknown."""
    category_source: CategorySource
    score: float | None
    """0 to 1, above 0.5 when raw_score is above the threshold: raw_score / (raw_score + threshold)."""
    raw_score: float
    """The larger of what the map says and what the distance is worth."""
    threshold: float | None
    """Of the raw score; a normal picture is above it with probability alpha at most."""
    p_value: float | None
    """How often a normal picture has a score as high as this."""
    alpha: float
    """The false-positive rate that is promised; that of the calibration's size where less was asked for."""
    is_anomalous: bool
    reason: Reason | None
    """Why it is anomalous, null when it is not: beyond distance_limit `not_this_product` where the request
    named one, else `unknown_product`."""
    distance: float
    """How far the picture is from the product, by features or look; calibration pictures are below 1."""
    distance_limit: float
    """The distance that is worth the threshold of the score."""
    levels: dict[Level, LevelShare]
    experts: list[Selected]
    """Those that the router chose, the most trusted first."""
    regions: list[Region]
    """The parts of the map above the threshold, in pixels of the picture (upright, as EXIF has it)."""
    anomaly_map: MapAnswer | None
    timings_ms: dict[str, float]
    """Milliseconds of each stage for all in it together; queue is all waiting, total the whole request."""
    batch_size: int
    """How many pictures were computed together."""


class BatchAnswer(BaseModel):
    """One result or one error per picture, in the order they were sent."""

    request_id: str
    results: list[DetectAnswer | ProblemAnswer]


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
    """A served model."""

    kind: str
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
