"""What is refused is refused before its body is read; deadlines and hang-ups cost no computation."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from service.app import create_app
from service.images.decode import Opened
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.metrics import Metrics
from service.models.loading import load_models
from service.scheduling.caller import Caller
from tests.service.asking import check_problem, runtime_in
from tests.service.conftest import ServiceFactory, encoded, settings_for
from tests.service.running import serving
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}


class HeldEngine:
    """Stands in for `Engine.run`: after `hold` it counts pictures, and computes while `gate` is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.computed = 0
        run = Engine.run

        def held(engine: Engine, pictures: Sequence[Picture]) -> list[Outcome | Exception]:
            self.entered.set()
            assert self.gate.wait(10)
            self.computed += len(pictures)
            return run(engine, pictures)

        monkeypatch.setattr(Engine, "run", held)

    def hold(self) -> None:
        self.gate.clear()
        self.entered.clear()
        self.computed = 0


@pytest.fixture
def held_engine(monkeypatch: pytest.MonkeyPatch) -> HeldEngine:
    return HeldEngine(monkeypatch)


def metric(service: TestClient, name: str) -> float:
    lines = service.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


async def call(app: FastAPI, *, path: str = "/detect", **headers: str) -> tuple[int, dict[str, str], int]:
    """Send a request straight to the application: status, headers, and how often its body was asked for."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": pairs,
        "client": ("10.0.0.7", 1),
    }
    sent: list[Message] = []
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": NORMAL, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], {key.decode(): value.decode() for key, value in sent[0]["headers"]}, asked


def refuse_full(service: TestClient) -> Callable[[], object]:
    permits = runtime_in(service).permits
    held = [permits.hold(Caller(f"camera {number}")) for number in range(64)]
    for one in held:
        one.__enter__()
    return lambda: [one.__exit__(None, None, None) for one in held]


def refuse_stopping(service: TestClient) -> Callable[[], object]:
    runtime_in(service).health.enter("stopping")
    return lambda: None


@pytest.mark.parametrize(("refuse", "status"), [(refuse_full, 429), (refuse_stopping, 503)])
def test_a_refusal_does_not_read_the_body(
    service: TestClient, refuse: Callable[[TestClient], Callable[[], object]], status: int
) -> None:
    app = service.app
    assert isinstance(app, FastAPI)
    undo = refuse(service)

    async def scenario() -> None:
        for path in ("/detect", "/detect/batch"):
            answered, headers, asked = await call(app, path=path, content_length="1000")
            assert (answered, asked) == (status, 0)
            assert headers.get("connection") == (None if status == 429 else "close")
            assert int(headers["retry-after"]) >= 1
        for large in ({"content_length": str(2 * 2**20)}, {"transfer_encoding": "chunked"}):
            answered, headers, asked = await call(app, **large)
            assert (answered, asked, headers["connection"]) == (status, 0, "close")

    asyncio.run(scenario())
    undo()
    text = service.get("/metrics").text
    assert f'anomoe_requests_total{{endpoint="/detect",status="{status}"}} 3.0' in text


def test_bytes_of_bodies_are_bounded(start_service: ServiceFactory) -> None:
    service = start_service(max_body_bytes=1000, max_in_flight_bytes=1500, queue_size=64)
    runtime = runtime_in(service)
    with runtime.permits.hold(Caller("camera"), 1400):
        response = service.post("/detect", content=NORMAL, headers=PNG)
        check_problem(response, 429, "busy", "1400", "1500")
    assert service.post("/detect", content=NORMAL, headers=PNG).status_code == 200
    assert runtime.permits.bodies.taken == 0


def test_a_wrong_deadline_is_a_problem(service: TestClient) -> None:
    response = service.post("/detect", content=NORMAL, headers={**PNG, "X-Deadline-Ms": "soon"})
    check_problem(response, 422, "invalid-parameter", "X-Deadline-Ms", "soon")


def test_a_deadline_that_passes_before_decoding_costs_nothing(
    service: TestClient, held_engine: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Opened:
        raise AssertionError("decoded in vain")

    monkeypatch.setattr("service.models.pipeline.open_picture", never)
    response = service.post("/detect", content=NORMAL, headers={**PNG, "X-Deadline-Ms": "0.001"})
    check_problem(response, 504, "deadline")
    assert held_engine.computed == 0
    assert 'anomoe_rejected_total{reason="deadline"} 1.0' in service.get("/metrics").text


@pytest.fixture
def busy_service(start_service: ServiceFactory, held_engine: HeldEngine) -> Iterator[TestClient]:
    """A service whose device is held by a picture, and whose queue lets nothing else through."""
    service = start_service(max_batch=1, host_threads=1)
    held_engine.hold()
    answers: list[int] = []
    width = 1 + 2 * 1

    def ask() -> None:
        answers.append(service.post("/detect", content=NORMAL, headers=PNG).status_code)

    threads = [threading.Thread(target=ask) for _ in range(width)]
    for thread in threads:
        thread.start()
    assert held_engine.entered.wait(5)
    while runtime_in(service).permits.taken < width:
        threading.Event().wait(0.005)
    yield service
    held_engine.gate.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * width
    assert held_engine.computed == width


def test_a_deadline_that_passes_in_the_queue_costs_no_computation(busy_service: TestClient) -> None:
    response = busy_service.post("/detect", content=NORMAL, headers={**PNG, "X-Deadline-Ms": "500"})
    check_problem(response, 504, "deadline", "turn")


def test_half_of_the_callers_hang_up_while_they_wait_and_cost_no_computation(
    bundle_folder: Path, held_engine: HeldEngine
) -> None:
    """Over real connections: eight wait behind one, four of them hang up."""
    settings = settings_for(bundle_folder, max_batch=1, host_threads=1)
    metrics = Metrics()
    app = create_app(settings, load_models(settings, metrics), metrics)
    held_engine.hold()

    async def scenario() -> None:
        async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=10) as client:
            tasks = [
                asyncio.create_task(client.post("/detect", content=NORMAL, headers=PNG)) for _ in range(11)
            ]
            pipeline = app.state.runtime.models.all[0].pipeline
            while pipeline.depth < 8 + 2:  # of three that are let through one is computed, two wait for it
                await asyncio.sleep(0.005)
            for task in tasks[-4:]:
                task.cancel()
            while pipeline.depth > 4 + 2:
                await asyncio.sleep(0.005)
            held_engine.gate.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        codes = [result.status_code for result in results if isinstance(result, httpx.Response)]
        assert codes == [200] * 7

    asyncio.run(scenario())
    assert held_engine.computed == 7
    assert "anomoe_abandoned_total 4.0" in metrics.render().decode()
