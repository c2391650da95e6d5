"""The drift of one product: two streams of numbers, one alarm, a curve."""

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Literal, NamedTuple

from service.drift.detector import Stream

CURVE_POINTS = 256

StreamName = Literal["score", "distance"]


class CurvePoint(NamedTuple):
    """The statistics, over the limit, when so many pictures had been looked at."""

    pictures: int
    score: float
    distance: float


class Alarm(NamedTuple):
    """When evidence reached the limit, after how many pictures, and by which stream above all."""

    time: datetime
    pictures: int
    stream: StreamName


class ProductDrift:
    """Evidence that a product's scores, or its distances, are not what they were.

    scores: of the calibration, the first ones to compare with; distances have none but the line's own. limit:
    pictures that are looked at between two false alarms, in the mean at least. After an alarm nothing is
    looked at any more: what is wrong must not become what is compared with.
    """

    def __init__(self, scores: Iterable[float], limit: float) -> None:
        self.score = Stream(scores)
        self.distance = Stream()
        self.limit = limit
        self.seen = 0
        self.pictures = 0
        self.alarm: Alarm | None = None
        self.curve: list[CurvePoint] = []
        self.spacing = 1

    @property
    def statistic(self) -> float:
        """The evidence of both streams; the alarm is at 1."""
        return (self.score.statistic + self.distance.statistic) / 2 / self.limit

    def add(self, score: float, distance: float, stride: int) -> None:
        """One more picture, which is looked at when it is the `stride`-th since the last that was."""
        self.seen += 1
        if self.alarm or self.seen % stride:
            return
        self.pictures += 1
        self.score.add(score)
        self.distance.add(distance)
        is_alarm = self.statistic >= 1
        if is_alarm:
            stronger = "score" if self.score.statistic >= self.distance.statistic else "distance"
            self.alarm = Alarm(datetime.now(timezone.utc), self.pictures, stronger)
        if is_alarm or self.pictures % self.spacing == 0:
            self._draw()

    def _draw(self) -> None:
        """One more point; a full curve loses every other one, and gets half as many from then on."""
        shares = (stream.statistic / 2 / self.limit for stream in (self.score, self.distance))
        self.curve.append(CurvePoint(self.pictures, *shares))
        if len(self.curve) == CURVE_POINTS:
            self.curve = self.curve[1::2]
            self.spacing *= 2
