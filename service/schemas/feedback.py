"""What `/feedback` is told and what it answers, as JSON."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from export.contract.names import Name
from service.schemas.common import Answer

Judgement = Literal["ok", "ng"]


class FeedbackParameters(BaseModel):
    """What an inspector says of a picture, from the query, form fields or JSON fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    judgement: Judgement = Field(description="whether the picture shows a good product")
    category: Name | None = Field(default=None, description="product, `unknown` when absent")
    answer: dict[str, Any] | Json[dict[str, Any]] | None = Field(
        default=None, description="what the service answered, as JSON"
    )


class FeedbackAnswer(Answer):
    """Where the picture is kept."""

    path: str
    """Within the folder, by category and judgement; the answer lies beside it with the suffix `.json`."""
