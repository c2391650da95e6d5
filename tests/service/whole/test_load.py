"""Under load every answer accounts for its time, and what callers make up leaves no series."""

import http.client
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.conftest import encoded
from tests.tiny_bundle import plain_picture, spotted_picture, unknown_picture

CLIENTS = 8
REQUESTS = 240
MADE_UP = int(os.environ.get("SOAK_NAMES", "400"))
SIZES = ((56, 42), (640, 480), (1600, 1200))  # the last in the lane of large pictures
PICTURES = [
    *(encoded(spotted_picture("slate", size)) for size in SIZES),
    encoded(plain_picture("brick", SIZES[1]), "JPEG"),
    encoded(unknown_picture()),
]


def test_stages_add_up_to_the_total_in_every_answer(service_url: str) -> None:
    """And the metrics have seen the same seconds as the callers."""
    before = stage_seconds(service_url)
    with ThreadPoolExecutor(CLIENTS) as clients, httpx.Client(base_url=service_url, timeout=60) as client:
        answers = list(clients.map(lambda number: ask(client, number), range(REQUESTS)))
    told = [one for answer in answers for one in answer]
    assert len(told) > REQUESTS
    for timings_ms, took_ms in told:
        total = timings_ms["total"]
        stages = sum(ms for stage, ms in timings_ms.items() if stage != "total")
        assert stages == pytest.approx(total, rel=0.05), timings_ms
        assert total <= took_ms
    for stage, seconds in stage_seconds(service_url).items():
        told_ms = sum(timings_ms.get(stage, 0.0) for timings_ms, _ in told)
        assert (seconds - before[stage]) * 1000 == pytest.approx(told_ms, rel=0.01), stage


def ask(client: httpx.Client, number: int) -> list[tuple[dict[str, float], float]]:
    """One request, each kind in turn: the timings of its answers, and what it took the caller, in ms."""
    picture = PICTURES[number % len(PICTURES)]
    map_kind = ("png", "none", "overlay")[number % 3]
    if number % 4 == 0:
        files = [("file", (str(place), one)) for place, one in enumerate(PICTURES)]
        answer = client.post("/detect/batch", files=files, params={"map": map_kind})
    elif number % 4 == 1:
        names = {"class_names": [f"slate {number}", "brick"], "map": map_kind}
        answer = client.post("/zero-shot", content=picture, params=names)
    else:
        answer = client.post("/detect", content=picture, params={"map": map_kind})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [(one["timings_ms"], answer.elapsed.total_seconds() * 1000) for one in body.get("results", [body])]


def stage_seconds(url: str) -> dict[str, float]:
    """Seconds by stage that the metrics have counted; texts are counted where they are made."""
    lines = [line.rpartition(" ") for line in httpx.get(f"{url}/metrics").text.splitlines()]
    sums = {name: float(value) for name, _, value in lines if name.startswith("anomoe_stage_seconds_sum{")}
    stages = {name.split('"')[1]: value for name, value in sums.items()}
    queue = next(float(value) for name, _, value in lines if name == "anomoe_queue_seconds_sum")
    return {stage: value for stage, value in {**stages, "queue": queue}.items() if stage != "text"}


@pytest.mark.slow
def test_what_callers_make_up_adds_no_series(service_url: str) -> None:
    """Paths, and as many products and class names."""
    before = series(service_url)
    picture = encoded(plain_picture("slate"))
    paths = [("GET", f"/scan/{number}", b"") for number in range(MADE_UP)]
    products = [("POST", f"/detect?category=made-up-{number}", picture) for number in range(MADE_UP)]
    queries = [
        "&".join(f"class_names=thing+{number}" for number in range(first, first + 16))
        for first in range(0, MADE_UP, 16)
    ]
    names = [("POST", f"/zero-shot?{query}", picture) for query in queries]
    assert statuses(service_url, paths) == {404}
    assert statuses(service_url, products) == {404}
    assert statuses(service_url, names) == {200}
    assert series(service_url) == before


def series(url: str) -> set[str]:
    """The names and labels that the metrics have."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def statuses(url: str, requests: Iterable[tuple[str, str, bytes]]) -> set[int]:
    """What the answers are, over one connection: methods, paths and bodies."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    found: set[int] = set()
    for method, path, body in requests:
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        found.add(answer.status)
    connection.close()
    return found
