"""One product: its component centres, its prototype and its calibration on held-out normal pictures."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Category:
    """What the service knows about one product. M components, D width, E router columns, h w patch grid,
    n pictures.

    centres (M, D): component centres. prototype (D,): mean direction of the cls tokens, unit length.
    radius: largest cosine distance of a cls token to the prototype that still is this product.
    error_offset, error_scale (E, h, w): calibration of each expert's error; the scale is positive.
    scores, peaks (n,): raw image scores and map maxima of the calibration pictures, ascending.
    chosen (E,): how many of the calibration pictures chose each expert; None where that was not counted.
    Raises ValueError when an array has the wrong shape, order or sign.
    """

    name: str
    centres: FloatArray
    prototype: FloatArray
    radius: float
    error_offset: FloatArray
    error_scale: FloatArray
    scores: FloatArray
    peaks: FloatArray
    chosen: FloatArray | None = None

    def __post_init__(self) -> None:
        for field, rank in _RANKS.items():
            array: FloatArray | None = getattr(self, field)
            if array is None:  # `chosen` alone may be
                continue
            if array.ndim != rank or array.size == 0 or not np.isfinite(array).all():
                raise ValueError(
                    f"category {self.name!r}: {field} {array.shape} is not {rank}-d, full and finite"
                )
        width, pictures = len(self.prototype), len(self.scores)
        rules = {
            f"centres must have width {width}": self.centres.shape[1] == width,
            "prototype must have length 1": abs(float(np.linalg.norm(self.prototype)) - 1) < 1e-3,
            f"radius {self.radius} must be a cosine distance": 0 <= self.radius <= 2,
            "error_scale must have the shape of error_offset": self.error_scale.shape
            == self.error_offset.shape,
            "error_scale must be positive": bool((self.error_scale > 0).all()),
            "scores must ascend": bool((np.diff(self.scores) >= 0).all()),
            "peaks must ascend": bool((np.diff(self.peaks) >= 0).all()),
            f"peaks must have length {pictures}": len(self.peaks) == pictures,
            f"chosen must have length {len(self.error_offset)} and count up to {pictures}": self._counts(),
        }
        for rule, kept in rules.items():
            if not kept:
                raise ValueError(f"category {self.name!r}: {rule}")

    def _counts(self) -> bool:
        if self.chosen is None:
            return True
        possible = np.isin(self.chosen, np.arange(len(self.scores) + 1))
        return len(self.chosen) == len(self.error_offset) and bool(possible.all())


_RANKS = {
    "centres": 2,
    "prototype": 1,
    "error_offset": 3,
    "error_scale": 3,
    "scores": 1,
    "peaks": 1,
    "chosen": 1,
}
_TENSORS = tuple(field.name for field in fields(Category) if field.name != "name")
_OPTIONAL = ("chosen",)


def dump_categories(categories: Iterable[Category]) -> bytes:
    """Write categories as safetensors with keys `<name>/<field>`; the radius has shape (1,)."""
    tensors = {
        f"{category.name}/{field}": np.atleast_1d(np.ascontiguousarray(getattr(category, field), np.float32))
        for category in categories
        for field in _TENSORS
        if getattr(category, field) is not None
    }
    return save(tensors)


def parse_categories(data: bytes) -> dict[str, Category]:
    """Read what `dump_categories` wrote, sorted by name. Raises ValueError when a field is malformed."""
    tensors = load(data)
    names = {key.rpartition("/")[0] for key in tensors}
    return {name: _category(name, tensors) for name in sorted(names)}


def _category(name: str, tensors: dict[str, npt.NDArray[np.float32]]) -> Category:
    try:
        values = {
            field: tensors[f"{name}/{field}"]
            for field in _TENSORS
            if field not in _OPTIONAL or f"{name}/{field}" in tensors
        }
    except KeyError as error:
        raise ValueError(f"category {name!r}: tensor {error} is missing") from error
    radius = float(values.pop("radius")[0])
    return Category(name=name, radius=radius, **values)


def save_categories(path: Path, categories: Iterable[Category]) -> None:
    """Write categories to a safetensors file."""
    path.write_bytes(dump_categories(categories))


def load_categories(path: Path) -> dict[str, Category]:
    """Read categories from a safetensors file, by name. Raises ValueError as `parse_categories`."""
    return parse_categories(path.read_bytes())
