"""The figures of a bundle, or of a running service, as `anomoe-train evaluate` gives them of a checkpoint.

Legend: n pictures, Hm Wm map.
"""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
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
from training.data.pictures import Sample
from training.reporting.measuring import find_test_samples, measure
from training.reporting.rows import Row
from training.reporting.scored import Scored
from training.runs.kept_scores import Batch, KeptMaps, files_key, keep_scores, kept_in

_TRIES = 6
_TIMEOUT_S = 120
_BUSY = (429, 503)


class ServiceError(ValueError):
    """A service that does not answer as one of ours; the message says why."""


def evaluate_bundle(
    folder: Path,
    data: Path,
    progress: Progress,
    device: Device = "cpu",
    state: Path | None = None,
    sheets: Path | None = None,
) -> list[Row]:
    """The figures of a bundle on test pictures, each judged as one of its category.

    state: folder for what has been scored, that a stopped evaluation goes on from. sheets: folder for
    examples of each category. Raises BundleError, GraphError, or DataError as `evaluate_checkpoint`.
    """
    bundle = Bundle.read(folder)
    engine = Engine(bundle, device=device)
    alpha = engine.manifest.calibration.alpha

    def look(members: Sequence[Sample]) -> Batch:
        found = outcomes(engine, read_pictures(members, engine))
        category = engine.category(members[0].category)
        scores = [max(one.raw_score, category.evidence(one.distance)) for one in found]
        return {
            "scores": np.array(scores, np.float32),
            "level_scores": np.stack([one.level_scores for one in found]),
            "maps": np.stack([one.map for one in found]),
            "alarms": np.array(scores, np.float32) > conformal_threshold(category.scores, alpha),
        }

    def threshold(name: str) -> float:
        return conformal_threshold(engine.category(name).peaks, alpha)

    with kept_in(state, f"{bundle.digest} {files_key(find_test_samples(data))}") as place:
        score = _Kept(look, place, progress, threshold)
        return measure(score, data, engine.manifest.input, engine.categories, sheets)


def evaluate_service(
    url: str,
    key: str | None,
    data: Path,
    progress: Progress,
    state: Path | None = None,
    sheets: Path | None = None,
) -> list[Row]:
    """The figures of a running service, which sees whole pictures, as they lie on disk.

    Maps and scores come on the scale of the answers, which sorts as the raw one within a category.
    Raises ServiceError for a refusal, DataError as `evaluate_checkpoint`.
    """

    def look(members: Sequence[Sample]) -> Batch:
        return scored_answers([ask(url, key, one) for one in members])

    with kept_in(state, f"{_models(url, key)} {files_key(find_test_samples(data))}") as place:
        score = _Kept(look, place, progress, lambda _: 0.5)
        return measure(score, data, InputSpec(height=1, width=1), sheets=sheets)


class _Kept(NamedTuple):
    """Scores the pictures of a category and keeps what was found; threshold: that of pixels of a category."""

    look: Callable[[Sequence[Sample]], Batch]
    place: Path
    progress: Progress
    threshold: Callable[[str], float]

    def __call__(self, members: list[Sample]) -> Scored:
        name = members[0].category
        kept = keep_scores(self.place, members, BATCH, self.look, self.progress, f"score {name}")
        scores, level_scores, alarms = map(kept.all, ("scores", "level_scores", "alarms"))
        maps = KeptMaps(kept, lambda part: part["maps"])
        return Scored(members, scores, level_scores, maps, alarms, self.threshold(name))


def scored_answers(answers: Sequence[dict[str, Any]]) -> Batch:
    """The scores of pictures from the answers of `/detect`."""
    maps = [np.load(BytesIO(b64decode(one["anomaly_map"]["data"])), allow_pickle=False) for one in answers]
    levels = [[one["levels"][level]["score"] for level in LEVELS] for one in answers]
    return {
        "scores": np.array([one["raw_score"] for one in answers], np.float32),
        "level_scores": np.array(levels, np.float32),
        "maps": np.stack(maps),
        "alarms": np.array([one["is_anomalous"] for one in answers], bool),
    }


def ask(url: str, key: str | None, sample: Sample) -> dict[str, Any]:
    """The answer of `/detect`; a full service is asked again after the time that it names."""
    query = urlencode({"category": sample.category, "map": "npy", "map_size": "model"})
    request = Request(f"{url.rstrip('/')}/detect?{query}", sample.path.read_bytes(), _headers(key))
    return _answer(request, str(sample.path))


def _models(url: str, key: str | None) -> str:
    """Digests of the models in service."""
    answer = _answer(Request(f"{url.rstrip('/')}/models", headers=_headers(key)), "models")
    return " ".join(sorted(one["digest"] for one in answer["models"]))


def _headers(key: str | None) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream"} | ({"X-API-Key": key} if key else {})


def _answer(request: Request, what: str) -> dict[str, Any]:
    url = f"{request.type}://{request.host}"
    for tries_left in reversed(range(_TRIES)):
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.load(response)
        except HTTPError as error:
            if error.code not in _BUSY or not tries_left:
                reason = error.read().decode(errors="replace")
                raise ServiceError(f"{url}: {what}: HTTP {error.code}: {reason}") from error
            time.sleep(float(error.headers.get("Retry-After", 1)))
        except (URLError, TimeoutError, ValueError) as error:
            raise ServiceError(f"{url}: {error}") from error
    raise AssertionError
