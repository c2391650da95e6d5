"""What `/zero-shot` is asked and what it answers, as JSON."""

from collections.abc import Sized
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from service.schemas.common import Answer, MapAnswer, MapParameters, ModelRef, Number
from service.settings import MOST_CLASS_NAMES


def _as_list(names: object) -> object:
    if isinstance(names, str):
        return [names]
    if isinstance(names, Sized) and len(names) > MOST_CLASS_NAMES:
        raise ValueError(f"at most {MOST_CLASS_NAMES} names are read, got {len(names)}")
    return names


_STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_CLASS_NAMES}
ClassNames = Annotated[
    list[str], BeforeValidator(_as_list), WithJsonSchema({"anyOf": [{"type": "string"}, _STRINGS]})
]


class ZeroShotParameters(MapParameters):
    """Parameters of a zero-shot detection, from the query, form fields or JSON fields."""

    class_names: ClassNames = Field(
        description="what the picture may show: one name or several (repeated, or a list in JSON)"
    )
    domain: Literal["industrial", "medical"] = Field(default="industrial", description="kind of picture")
    threshold: Number | None = Field(
        default=None, ge=0, le=1, description="score above which a picture is anomalous"
    )
    maps: Literal["best", "all"] = Field(
        default="best", description="the map of the best class name alone, or one with every class name"
    )

    @property
    def is_medical(self) -> bool:
        """Whether maps and scores are those of medical pictures."""
        return self.domain == "medical"


class ClassAnswer(Answer):
    """The verdict with one class name."""

    class_name: str
    """As it was asked for; spellings that differ in case, spaces, underscores and dashes are one name."""
    score: float
    """0 to 1."""
    threshold: float
    """The score above which it is anomalous."""
    is_anomalous: bool
    anomaly_map: MapAnswer | None
    """Null unless all maps are asked for."""


class ZeroShotAnswer(Answer):
    """The verdict on one picture with each class name."""

    request_id: str
    """That of the request, also in the header X-Request-ID and in the log."""
    model: ModelRef
    calibrated: bool
    """Whether every threshold was given or fitted to normal pictures, and is no guess."""
    best: str
    """The class name that fits the picture best, as it was asked for."""
    classes: list[ClassAnswer]
    """In the order they were asked for."""
    anomaly_map: MapAnswer | None
    """That of the best one."""
    timings_ms: dict[str, float]
    """Milliseconds of each stage for all in it together; queue is all waiting, total the whole request."""
    batch_size: int
    """How many pictures were computed together."""
