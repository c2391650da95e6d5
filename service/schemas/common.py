"""What several requests and answers share."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FieldSerializationInfo, field_serializer

from export.contract.manifest import InputSpec
from service.schemas.findings import MapEncoding


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
