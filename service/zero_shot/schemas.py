"""What `/zero-shot` is asked and what it answers, as JSON."""

from collections.abc import Sized
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from service.schemas import MapAnswer, MapParameters, ModelRef, Number
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


class ClassAnswer(BaseModel):
    """One class name's score, 0 to 1, the threshold it is held against, and its map if all are asked for."""

    class_name: str
    score: float
    threshold: float
    is_anomalous: bool
    anomaly_map: MapAnswer | None


class ZeroShotAnswer(BaseModel):
    """The verdict on one picture with each class name; `anomaly_map` is that of the best one."""

    request_id: str
    model: ModelRef
    calibrated: bool
    best: str
    classes: list[ClassAnswer]
    anomaly_map: MapAnswer | None
    timings_ms: dict[str, float]
    batch_size: int
