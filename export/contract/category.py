"""One product, or one class name: its calibration on normal pictures, and what else is known of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from export.contract.names import composed

FloatArray = npt.NDArray[np.float32]

_OPTIONAL = ("chosen",)


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The calibration of one product, or of one class name: n normal pictures that took no part in training.

    scores, peaks (n,): their raw image scores and map maxima, ascending.
    Raises ValueError when an array has the wrong shape or order.
    """

    name: str
    scores: FloatArray
    peaks: FloatArray

    def __post_init__(self) -> None:
        self._check_ranks({"scores": 1, "peaks": 1})
        pictures = len(self.scores)
        self._check_rules(
            {
                "scores must ascend": bool((np.diff(self.scores) >= 0).all()),
                "peaks must ascend": bool((np.diff(self.peaks) >= 0).all()),
                f"peaks must have length {pictures}": len(self.peaks) == pictures,
            }
        )

    def _check_ranks(self, ranks: Mapping[str, int]) -> None:
        for field, rank in ranks.items():
            array: FloatArray = getattr(self, field)
            if array.ndim != rank or array.size == 0 or not np.isfinite(array).all():
                raise ValueError(
                    f"category {self.name!r}: {field} {array.shape} is not {rank}-d, full and finite"
                )

    def _check_rules(self, rules: Mapping[str, bool]) -> None:
        for rule, kept in rules.items():
            if not kept:
                raise ValueError(f"category {self.name!r}: {rule}")


@dataclass(frozen=True, eq=False)
class ClassScores(NormalScores):
    """The calibration of one class name; medical: in the domain of medical pictures, else industrial."""

    medical: bool = False


@dataclass(frozen=True, eq=False)
class Category(NormalScores):
    """What the service knows about one product. M components, D width, E router columns, h w patch grid.

    centres (M, D): component centres. prototype (D,): mean direction of the cls tokens, unit length.
    radius: largest cosine distance of a cls token to the prototype that still is this product.
    error_offset, error_scale (E, h, w): calibration of each expert's error; the scale is positive.
    chosen (E,): how many of the calibration pictures chose each expert; None where that was not counted.
    Raises ValueError when an array has the wrong shape, order or sign.
    """

    centres: FloatArray
    prototype: FloatArray
    radius: float
    error_offset: FloatArray
    error_scale: FloatArray
    chosen: FloatArray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranks({"centres": 2, "prototype": 1, "error_offset": 3, "error_scale": 3})
        width = len(self.prototype)
        self._check_rules(
            {
                f"centres must have width {width}": self.centres.shape[1] == width,
                "prototype must have length 1": abs(float(np.linalg.norm(self.prototype)) - 1) < 1e-3,
                f"radius {self.radius} must be a cosine distance": 0 <= self.radius <= 2,
                "error_scale must have the shape of error_offset": self.error_scale.shape
                == self.error_offset.shape,
                "error_scale must be positive": bool((self.error_scale > 0).all()),
                f"chosen must count pictures of {len(self.scores)} by expert": self._counts_pictures(),
            }
        )

    def _counts_pictures(self) -> bool:
        if self.chosen is None:
            return True
        possible = np.isin(self.chosen, np.arange(len(self.scores) + 1))
        return self.chosen.shape == self.error_offset.shape[:1] and bool(possible.all())


def dump_categories(categories: Iterable[NormalScores]) -> bytes:
    """Write categories as safetensors with keys `<name>/<field>`; a single number has shape (1,)."""
    tensors = {
        f"{category.name}/{field}": np.atleast_1d(np.ascontiguousarray(getattr(category, field), np.float32))
        for category in categories
        for field in _tensor_names(type(category))
        if getattr(category, field) is not None
    }
    return save(tensors)


def parse_categories(data: bytes) -> dict[str, Category]:
    """Read what `dump_categories` wrote, sorted by name. Raises ValueError when a field is malformed."""
    categories: dict[str, Category] = {}
    for name, values in _by_name(data, Category).items():
        radius = float(values.pop("radius")[0])
        categories[name] = Category(name=name, radius=radius, **values)
    return categories


def parse_class_scores(data: bytes) -> dict[str, ClassScores]:
    """The class names of what `dump_categories` wrote, sorted by name. Raises ValueError likewise."""
    classes: dict[str, ClassScores] = {}
    for name, values in _by_name(data, ClassScores).items():
        medical = bool(values.pop("medical")[0])
        classes[name] = ClassScores(name=name, medical=medical, **values)
    return classes


def save_categories(path: Path, categories: Iterable[NormalScores]) -> None:
    """Write categories to a safetensors file."""
    path.write_bytes(dump_categories(categories))


def load_categories(path: Path) -> dict[str, Category]:
    """Read categories from a safetensors file, by name. Raises ValueError as `parse_categories`."""
    return parse_categories(path.read_bytes())


def _tensor_names(kind: type[NormalScores]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name != "name")


def _by_name(data: bytes, kind: type[NormalScores]) -> dict[str, dict[str, FloatArray]]:
    """The tensors of every category, by field. Raises ValueError when one is missing."""
    tensors = load(data)
    found: dict[str, dict[str, FloatArray]] = {}
    for name in sorted({key.rpartition("/")[0] for key in tensors}):
        try:
            found[composed(name)] = {
                field: tensors[f"{name}/{field}"]
                for field in _tensor_names(kind)
                if field not in _OPTIONAL or f"{name}/{field}" in tensors
            }
        except KeyError as error:
            raise ValueError(f"category {name!r}: tensor {error} is missing") from error
    return found
