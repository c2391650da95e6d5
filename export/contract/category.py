"""One product, or one class name: its calibration on normal pictures, and what else is known of it."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from export.contract.appearance import STATISTICS, FloatArray, Whitening
from export.contract.names import canonical_name, composed

DISTANCE_POWER = 8  # so steep that distances of normal pictures, below 1, hardly count as scores


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

    def _check_appearance(self, mean: FloatArray, whitening: FloatArray) -> None:
        self._check_ranks({"appearance_mean": 1, "appearance_whitening": 2})
        self._check_rules(
            {
                f"appearance_mean must have length {STATISTICS}": mean.shape == (STATISTICS,),
                f"appearance_whitening must be {STATISTICS} x {STATISTICS}": whitening.shape
                == (STATISTICS, STATISTICS),
            }
        )

    def _check_rules(self, rules: Mapping[str, bool]) -> None:
        for rule, kept in rules.items():
            if not kept:
                raise ValueError(f"category {self.name!r}: {rule}")


@dataclass(frozen=True, eq=False)
class ClassScores(NormalScores):
    """The calibration of one class name; medical: in the domain of medical pictures, else industrial.

    scores (n,): of each calibration picture the larger of image score and `evidence` of its appearance.
    appearance_mean (F,), appearance_whitening (F, F): as of a category; None of older calibrations.
    """

    medical: bool = False
    appearance_mean: FloatArray | None = None
    appearance_whitening: FloatArray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.appearance_mean is not None and self.appearance_whitening is not None:
            self._check_appearance(self.appearance_mean, self.appearance_whitening)

    def evidence(self, appearance: FloatArray) -> float:
        """The score, up to 1, that it is worth to look (F,) unlike the calibration pictures.

        At distance 1 their highest, which grows with the distance to the eighth power.
        """
        if self.appearance_mean is None or self.appearance_whitening is None:
            return 0.0
        distance = float(Whitening(self.appearance_mean, self.appearance_whitening).distance(appearance))
        return min(1.0, float(self.scores[-1]) * distance**DISTANCE_POWER)


@dataclass(frozen=True, eq=False)
class Category(NormalScores):
    """What the service knows about one product. M components, D width, V width of cls, E router columns,
    h w patch grid.

    scores (n,): of each calibration picture the larger of image score and `evidence` of its distance.
    centres (M, D): component centres. prototype (V,): mean direction of the cls tokens, unit length.
    radius: the cosine distance of a cls token to the prototype that counts as distance 1.
    appearance_mean (F,), appearance_whitening (F, F): see `Whitening`; its distance 1 counts as 1.
    distance_score: the image score that distance 1 is worth.
    error_offset, error_scale (E, h, w): calibration of each expert's error; the scale is positive.
    chosen (E,): how many of the calibration pictures chose each expert; None where that was not counted.
    Raises ValueError when an array has the wrong shape, order or sign.
    """

    centres: FloatArray
    prototype: FloatArray
    radius: float
    appearance_mean: FloatArray
    appearance_whitening: FloatArray
    distance_score: float
    error_offset: FloatArray
    error_scale: FloatArray
    chosen: FloatArray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranks({"centres": 2, "prototype": 1, "error_offset": 3, "error_scale": 3})
        self._check_appearance(self.appearance_mean, self.appearance_whitening)
        self._check_rules(
            {
                "prototype must have length 1": abs(float(np.linalg.norm(self.prototype)) - 1) < 1e-3,
                f"radius {self.radius} must be a cosine distance above 0": 0 < self.radius <= 2,
                f"distance_score {self.distance_score} must be positive": 0 < self.distance_score < np.inf,
                "error_scale must have the shape of error_offset": self.error_scale.shape
                == self.error_offset.shape,
                "error_scale must be positive": bool((self.error_scale > 0).all()),
                f"chosen must count pictures of {len(self.scores)} by expert": self._counts_pictures(),
            }
        )

    def distance(self, cls: FloatArray, appearance: FloatArray) -> float:
        """How far a picture is from the product, by cls token (V,) or appearance (F,), whichever is further.

        No calibration picture is as far as 1.
        """
        unit = cls / max(float(np.linalg.norm(cls)), 1e-12)
        semantic = (1 - float(self.prototype @ unit)) / self.radius
        visual = Whitening(self.appearance_mean, self.appearance_whitening).distance(appearance)
        return max(semantic, float(visual), 0.0)

    def evidence(self, distance: float) -> float:
        """The image score that a distance is worth: distance_score * distance ** 8."""
        return self.distance_score * distance**DISTANCE_POWER

    def distance_limit(self, threshold: float) -> float:
        """The distance whose evidence is as high as a threshold of image scores."""
        return (threshold / self.distance_score) ** (1 / DISTANCE_POWER)

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
        radius, distance_score = (float(values.pop(field)[0]) for field in ("radius", "distance_score"))
        categories[name] = Category(name=name, radius=radius, distance_score=distance_score, **values)
    return categories


def parse_class_scores(data: bytes) -> dict[str, ClassScores]:
    """The class names of what `dump_categories` wrote, by canonical name. Raises ValueError likewise.

    Each keeps the spelling that it was calibrated with. Of two spellings of one name, as older files may
    hold, the one counts whose pictures scored lower: its threshold raises the alarm earlier.
    """
    classes: dict[str, ClassScores] = {}
    for name, values in _by_name(data, ClassScores).items():
        medical = bool(values.pop("medical")[0])
        scores = ClassScores(name=name, medical=medical, **values)
        key = canonical_name(name)
        classes[key] = min(scores, classes.get(key, scores), key=lambda one: float(one.scores[-1]))
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
    optional = [field.name for field in fields(kind) if field.default is not MISSING]
    for name in sorted({key.rpartition("/")[0] for key in tensors}):
        try:
            found[composed(name)] = {
                field: tensors[f"{name}/{field}"]
                for field in _tensor_names(kind)
                if field not in optional or f"{name}/{field}" in tensors
            }
        except KeyError as error:
            hint = "calibrated by an older version? `anomoe-train calibrate` and `anomoe-export build` add it"
            raise ValueError(f"category {name!r}: tensor {error} is missing: {hint}") from error
    return found
