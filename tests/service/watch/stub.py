"""A client whose answers follow from what is in a picture."""

from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from anomoe_client import ClientError, Detection, ProblemError
from anomoe_client.reading import read

DETECTION: dict[str, object] = {
    "request_id": "1",
    "model": {"name": "stub", "version": "1", "digest": "sha256:0"},
    "category": "board",
    "category_source": "recognised",
    "score": 0.4,
    "raw_score": 0.1,
    "threshold": 0.15,
    "p_value": 0.5,
    "alpha": 0.01,
    "is_anomalous": False,
    "verdict": "normal",
    "reason": None,
    "distance": 0.1,
    "distance_limit": 1.0,
    "levels": {},
    "experts": [],
    "regions": [],
    "anomaly_map": None,
    "timings_ms": {"total": 1.0},
    "batch_size": 1,
}


class StubClient:
    """`bad` is anomalous, `other` no product, `broken` no picture; the first answers are `failures`."""

    def __init__(self, failures: Iterable[ClientError] = ()) -> None:
        self.failures = list(failures)

    async def detect_many(
        self, pictures: Iterable[str], *, at_once: int
    ) -> AsyncGenerator[Detection | ClientError, None]:
        """Answers in order."""
        assert at_once > 0
        for path in pictures:
            yield self.failures.pop(0) if self.failures else self.judged(Path(path))

    def judged(self, path: Path) -> Detection | ClientError:
        """The answer to one picture."""
        text = path.read_text() if path.exists() else ""
        if "broken" in text:
            kind = "undecodable-picture"
            return ProblemError(
                kind,
                status=422,
                type=f"urn:anomoe:{kind}",
                title="",
                detail="",
                request_id=None,
                retry_after_s=0,
            )
        category = None if "other" in text else "board"
        is_anomalous = category is None or "bad" in text
        return read(
            Detection, {**DETECTION, "category": category, "is_anomalous": is_anomalous, "verdict": None}
        )
