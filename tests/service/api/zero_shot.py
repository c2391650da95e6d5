"""Requests to `/zero-shot`, and what the metrics tell of its texts."""

from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from httpx2 import Response
from starlette.testclient import TestClient

from tests.service.asking import PNG
from tests.service.conftest import encoded, picture

BRICK = encoded(picture("brick"))
SPOTTED = encoded(picture("brick", spotted=True))


def post(service: TestClient, *names: str, of: bytes = SPOTTED, **params: Any) -> Response:
    query = {"class_names": list(names), **params}
    return service.post("/zero-shot", content=of, headers=PNG, params=query)


def answered(service: TestClient, *names: str, of: bytes = SPOTTED, **params: Any) -> dict[str, Any]:
    response = post(service, *names, of=of, **params)
    assert response.status_code == 200, response.text
    return response.json()


def values_of(anomaly_map: Mapping[str, str]) -> np.ndarray:
    return np.load(BytesIO(b64decode(anomaly_map["data"])))


def metric(service: TestClient, sample: str) -> float:
    lines = [line.rpartition(" ") for line in service.get("/metrics").text.splitlines()]
    return next((float(value) for name, _, value in lines if name == f"anomoe_{sample}"), 0.0)


def text_metrics(service: TestClient) -> tuple[float, float, float]:
    """Hits, misses, size of the cache."""
    hits, misses = (metric(service, f'text_cache_total{{result="{result}"}}') for result in ("hit", "miss"))
    return hits, misses, metric(service, "text_cache_size")
