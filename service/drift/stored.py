"""The drift of a bundle's products as a file in the state folder, from one start to the next."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from service.drift.detector import BINS, PER_OCTAVE, SHIFTS, Stream
from service.drift.product import CURVE_POINTS, Alarm, CurvePoint, ProductDrift

Bin = Annotated[int, Field(ge=0, lt=BINS)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class StoredStream(BaseModel):
    """Counts by bin, where there are any, and the statistic of each shift."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    counts: dict[Bin, Count]
    statistics: list[NonNegativeFloat] = Field(min_length=len(SHIFTS), max_length=len(SHIFTS))

    @classmethod
    def of(cls, stream: Stream) -> "StoredStream":
        """What a stream knows."""
        counts = stream.ranks.counts
        return cls(
            counts={int(place): int(counts[place]) for place in np.flatnonzero(counts)},
            statistics=stream.statistics.tolist(),
        )

    def restore(self, stream: Stream) -> None:
        """Let a stream know it."""
        stream.ranks.counts[:] = 0
        for place, count in self.counts.items():
            stream.ranks.counts[place] = count
        stream.ranks.total = sum(self.counts.values())
        stream.statistics[:] = self.statistics


class StoredProduct(BaseModel):
    """One product."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    score: StoredStream
    distance: StoredStream
    seen: int = Field(ge=0)
    pictures: int = Field(ge=0)
    alarm: Alarm | None
    curve: list[CurvePoint] = Field(max_length=CURVE_POINTS)
    spacing: int = Field(ge=1)

    @classmethod
    def of(cls, product: ProductDrift) -> "StoredProduct":
        """What is known of a product."""
        return cls(
            score=StoredStream.of(product.score),
            distance=StoredStream.of(product.distance),
            seen=product.seen,
            pictures=product.pictures,
            alarm=product.alarm,
            curve=list(product.curve),
            spacing=product.spacing,
        )

    def restore(self, product: ProductDrift) -> None:
        """Let a product know it."""
        self.score.restore(product.score)
        self.distance.restore(product.distance)
        product.seen, product.pictures, product.alarm = self.seen, self.pictures, self.alarm
        product.curve, product.spacing = list(self.curve), self.spacing


class StoredDrift(BaseModel):
    """The content of a file; bins and shifts are those it was counted with."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bins: tuple[int, int]
    shifts: list[float]
    products: dict[str, StoredProduct]

    @classmethod
    def of(cls, products: Mapping[str, ProductDrift]) -> "StoredDrift":
        """What is known of a bundle's products, by name."""
        known = {name: StoredProduct.of(product) for name, product in products.items()}
        return cls(bins=(BINS, PER_OCTAVE), shifts=SHIFTS.tolist(), products=known)

    def restore(self, products: Mapping[str, ProductDrift]) -> None:
        """Let the products know it. Raises ValueError when it was counted otherwise."""
        if self.bins != (BINS, PER_OCTAVE) or self.shifts != SHIFTS.tolist():
            raise ValueError("bins, shifts: it was counted with others")
        for name in products.keys() & self.products.keys():
            self.products[name].restore(products[name])

    def write(self, file: Path) -> None:
        """As a whole or not at all. Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            part.write_text(self.model_dump_json(), encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
