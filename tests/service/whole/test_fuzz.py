"""Broken uploads get a 4xx, or an answer where the decoder copes; never a 500."""

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import ServiceFactory, encoded
from tests.service.fuzz import uploads
from tests.tiny_bundle import spotted_picture

pytestmark = pytest.mark.alone

ANOMALOUS = encoded(spotted_picture("brick"))
ALLOWED = {200, 400, 413, 415, 422}
COUNT = int(os.environ.get("SOAK_UPLOADS", "400"))
PNG = {"Content-Type": "image/png"}


def memory_bytes() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def verdict(service: TestClient) -> tuple[object, ...]:
    answer = service.post("/detect", content=ANOMALOUS, headers=PNG).json()
    return answer["raw_score"], answer["regions"], answer["anomaly_map"]


@pytest.mark.filterwarnings("ignore")  # Pillow's, about what it reads in broken files
def test_broken_uploads_are_the_callers_problem(start_service: ServiceFactory) -> None:
    service = start_service(max_pixels=50_000_000)
    before = verdict(service)
    for data in uploads(200, seed=1):  # what is allocated once
        service.post("/detect", content=data, headers=PNG)
    held = memory_bytes()
    statuses: dict[int, int] = {}
    for data in uploads(COUNT, seed=2):
        status = service.post("/detect", content=data, headers=PNG, params={"map": "none"}).status_code
        statuses[status] = statuses.get(status, 0) + 1
    assert set(statuses) <= ALLOWED
    assert statuses[422] > COUNT / 2
    assert memory_bytes() < 1.1 * held
    assert verdict(service) == before
