"""What `/drift` answers."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class DriftPoint(BaseModel):
    """The evidence of each stream after so many pictures; the alarm is when both together reach 1."""

    pictures: int
    score: float
    distance: float


class DriftAlarm(BaseModel):
    """When the alarm was raised, after how many pictures, and by which stream above all."""

    time: datetime
    pictures: int
    stream: Literal["score", "distance"]


class ProductDriftInfo(BaseModel):
    """The drift of one product: pictures looked at, evidence (the alarm is at 1), and how it came about."""

    category: str
    model: str
    pictures: int
    statistic: float
    alarm: DriftAlarm | None
    curve: list[DriftPoint]


class DriftAnswer(BaseModel):
    """Every product, and the promise: so many pictures between two false alarms, in the mean at least."""

    pictures_between_false_alarms: int
    stride: int
    products: list[ProductDriftInfo]
