"""The answers of the service; fields that a newer one adds are passed over."""

from base64 import b64decode
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Which model answered."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class LevelShare:
    """One level alone: its score, 0 to 1, and the gate weight of its chosen experts."""

    score: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class ExpertUse:
    """A chosen expert and its gate weight."""

    level: str
    index: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected part of the map above the pixel threshold, in pixels of the picture (upright)."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float
    level: str


@dataclass(frozen=True, kw_only=True)
class AnomalyMap:
    """The anomaly map as a file in base64; `encoding` is png, png16, overlay (a PNG) or npy."""

    encoding: str
    width: int
    height: int
    data: str

    def file(self) -> bytes:
        """The bytes of the PNG or npy file."""
        return b64decode(self.data)

    def array(self) -> "npt.NDArray[np.float32]":
        """Scores (height, width), 0 to 1, of a map that was asked for with `map="npy"`.

        Raises: ValueError for another encoding, ImportError without NumPy.
        """
        if self.encoding != "npy":
            raise ValueError(f"map: an array is made of 'npy', got {self.encoding!r}")
        import numpy as np  # noqa: PLC0415 (only those who want arrays need it)

        return np.load(BytesIO(self.file()), allow_pickle=False)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    request_id: str
    model: ModelRef
    anomaly_map: AnomalyMap | None
    timings_ms: dict[str, float]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Detection(_Answer):
    """The verdict on one picture. An unknown product is anomalous, without score, p_value and threshold."""

    category: str | None
    category_source: str
    score: float | None
    raw_score: float
    threshold: float | None
    p_value: float | None
    alpha: float
    is_anomalous: bool
    verdict: str | None = None
    """`normal`, `undecided` or `anomalous`; None of a service that does not tell."""
    reason: str | None
    distance: float
    distance_limit: float
    explanation: str | None = None
    levels: dict[str, LevelShare]
    experts: list[ExpertUse]
    regions: list[Region]


@dataclass(frozen=True, kw_only=True)
class ClassVerdict:
    """The verdict with one class name."""

    class_name: str
    score: float
    threshold: float
    is_anomalous: bool
    anomaly_map: AnomalyMap | None


@dataclass(frozen=True, kw_only=True)
class ZeroShotDetection(_Answer):
    """The verdict on one picture with each class name; `best` fits the picture best."""

    calibrated: bool
    best: str
    classes: list[ClassVerdict]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error of the service (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def without_maps(answer: Detection | ZeroShotDetection) -> dict[str, Any]:
    """The answer as JSON holds it, but for its maps."""
    return asdict(
        answer, dict_factory=lambda pairs: {key: value for key, value in pairs if key != "anomaly_map"}
    )
