"""What `/detect` is asked and what it answers, as JSON."""

from pydantic import BaseModel, Field

from export.contract.manifest import Level
from export.contract.names import Name
from service.errors import ProblemAnswer
from service.schemas.common import Answer, MapAnswer, MapParameters, ModelRef, Number
from service.schemas.findings import CategorySource, LevelShare, Reason, Region, Selected


class DetectParameters(MapParameters):
    """Parameters of a detection, from the query, form fields or JSON fields."""

    category: Name | None = Field(
        default=None, description="product; recognised from the picture when absent"
    )
    alpha: Number | None = Field(default=None, gt=0, lt=1, description="accepted false-positive rate")
    regions: bool = Field(default=True, description="whether to list the anomalous regions")


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
