"""The figures of a bundle, or of a running service, as `anomoe-train evaluate` gives them of a checkpoint.

Legend: n pictures, Hm Wm map.
"""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
from rich.progress import Progress

from export.contract.bundle import Bundle
from export.contract.decision import conformal_threshold
from export.contract.manifest import LEVELS, InputSpec
from export.verify.accuracy import BATCH, outcomes, read_pictures
from service.inference.anomalymoe import Engine
from service.inference.backends.base import Device
from training.anomalymoe.evaluation.evaluate import Scored, evaluate_scoring
from training.data.pictures import Sample
from training.reporting.rows import Row

_TRIES = 6
_TIMEOUT_S = 120
_BUSY = (429, 503)


class ServiceError(ValueError):
    """A service that does not answer as one of ours; the message says why."""


Answers = Callable[[Sample], dict[str, Any]]
"""The answer of `/detect` to a test picture, asked with its category and for a map as npy at model size."""


def evaluate_bundle(folder: Path, data: Path, progress: Progress, device: Device = "cpu") -> list[Row]:
    """The figures of a bundle on test pictures, each judged as one of its category.

    Raises BundleError, GraphError, or DataError as `evaluate_checkpoint`.
    """
    engine = Engine(Bundle.read(folder), device=device)

    def score(members: list[Sample]) -> Scored:
        return _score(engine, members, progress)

    return evaluate_scoring(score, data, engine.manifest.input, engine.categories)


def evaluate_service(url: str, key: str | None, data: Path, progress: Progress) -> list[Row]:
    """The figures of a running service, which sees whole pictures, as they lie on disk.

    Maps and scores come on the scale of the answers, which sorts as the raw one within a category.
    Raises ServiceError for a refusal, DataError as `evaluate_checkpoint`.
    """

    def score(members: list[Sample]) -> Scored:
        tracked = progress.track(members, description=f"score {members[0].category} by {url}")
        return scored_answers(members, [ask(url, key, one) for one in tracked])

    return evaluate_scoring(score, data, InputSpec(height=1, width=1))


def scored_answers(members: list[Sample], answers: Sequence[dict[str, Any]]) -> Scored:
    """The scores of a category's pictures from the answers of `/detect`."""
    maps = [np.load(BytesIO(b64decode(one["anomaly_map"]["data"])), allow_pickle=False) for one in answers]
    return Scored(
        members,
        np.array([one["raw_score"] for one in answers], np.float32),
        np.array([[one["levels"][level]["score"] for level in LEVELS] for one in answers], np.float32),
        np.stack(maps),
        np.array([one["is_anomalous"] for one in answers], bool),
        0.5,
    )


def ask(url: str, key: str | None, sample: Sample) -> dict[str, Any]:
    """The answer of `/detect`; a full service is asked again after the time that it names."""
    query = urlencode({"category": sample.category, "map": "npy", "map_size": "model"})
    headers = {"Content-Type": "application/octet-stream"} | ({"X-API-Key": key} if key else {})
    request = Request(f"{url.rstrip('/')}/detect?{query}", sample.path.read_bytes(), headers)
    for tries_left in reversed(range(_TRIES)):
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.load(response)
        except HTTPError as error:
            if error.code not in _BUSY or not tries_left:
                reason = error.read().decode(errors="replace")
                raise ServiceError(f"{url}: {sample.path}: HTTP {error.code}: {reason}") from error
            time.sleep(float(error.headers.get("Retry-After", 1)))
        except (URLError, TimeoutError, ValueError) as error:
            raise ServiceError(f"{url}: {error}") from error
    raise AssertionError


def _score(engine: Engine, members: list[Sample], progress: Progress) -> Scored:
    starts = progress.track(range(0, len(members), BATCH), description=f"score {members[0].category}")
    parts = [outcomes(engine, read_pictures(members[start : start + BATCH], engine)) for start in starts]
    found = [one for part in parts for one in part]
    category, alpha = engine.category(members[0].category), engine.manifest.calibration.alpha
    scores = np.array([max(one.raw_score, category.evidence(one.distance)) for one in found], np.float32)
    return Scored(
        members,
        scores,
        np.stack([one.level_scores for one in found]),
        np.stack([one.map for one in found]),
        scores > conformal_threshold(category.scores, alpha),
        conformal_threshold(category.peaks, alpha),
    )
