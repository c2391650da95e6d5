"""A stage that dies or hangs: unready at once, callers answered, then made anew or given up."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.inference.anomalymoe import Engine, Outcome, Picture
from service.metrics import Metrics
from service.models.loading import load_models
from service.models.runtime import Runtime
from tests.service.asking import check_problem, runtime_in, wait_until_ready
from tests.service.conftest import ServiceFactory, encoded, settings_for
from tests.tiny_bundle import plain_picture

pytestmark = pytest.mark.alone

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}


class BrokenEngine:
    """Stands in for `Engine.run` and `Engine.warm_up`; each may be replaced by something that breaks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.run = self.well
        self.probe = self.well
        run = Engine.run

        def broken(engine: Engine, pictures: Sequence[Picture]) -> list[Outcome | Exception]:
            self.run()
            return run(engine, pictures)

        monkeypatch.setattr(Engine, "run", broken)
        monkeypatch.setattr(Engine, "warm_up", lambda *_: self.probe())

    def well(self) -> None:
        """As it should be."""

    def die(self) -> None:
        raise SystemExit

    def die_once(self) -> None:
        self.run = self.well
        raise SystemExit

    def hang_once(self) -> None:
        self.run = self.well
        self.gate.wait(30)

    def fail(self) -> None:
        raise RuntimeError("no device")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> BrokenEngine:
    return BrokenEngine(monkeypatch)


def ask(service: TestClient) -> int:
    return service.post("/detect", content=NORMAL, headers=PNG).status_code


def test_a_dead_engine_thread_answers_its_callers_and_is_made_anew(
    start_service: ServiceFactory, engine: BrokenEngine
) -> None:
    service = start_service()
    was_ready_in_probe: list[bool] = []
    health = runtime_in(service).health
    engine.run = engine.die_once
    engine.probe = lambda: was_ready_in_probe.append(health.is_ready)
    response = service.post("/detect", content=NORMAL, headers=PNG)
    check_problem(response, 503, "unavailable", "engine: a thread died of SystemExit")
    wait_until_ready(service)
    assert was_ready_in_probe == [False]
    assert ask(service) == 200
    text = service.get("/metrics").text
    assert 'anomoe_stage_failures_total{stage="engine"} 1.0' in text
    assert "anomoe_ready 1.0" in text


def test_a_hung_engine_is_unready_and_answers_all_that_wait(
    start_service: ServiceFactory, engine: BrokenEngine
) -> None:
    service = start_service(watchdog_s=0.2, max_batch=1, host_threads=1)
    engine.run = engine.hang_once
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(service))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    engine.gate.set()
    assert answers == [503, 503]
    wait_until_ready(service)
    assert ask(service) == 200


def test_a_thread_that_dies_decoding_is_made_anew(
    start_service: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise SystemExit

    service = start_service()
    with monkeypatch.context() as patch:
        patch.setattr("service.models.pipeline.open_picture", die)
        check_problem(
            service.post("/detect", content=NORMAL, headers=PNG), 503, "unavailable", "decode: a thread died"
        )
    wait_until_ready(service)
    assert ask(service) == 200


@pytest.mark.parametrize("probe", ["fail", "die"])
def test_a_stage_that_does_not_come_back_is_given_up(
    start_service: ServiceFactory, engine: BrokenEngine, probe: str
) -> None:
    service = start_service()
    given_up = threading.Event()
    runtime_in(service).health.on_give_up = given_up.set
    engine.run = engine.die
    engine.probe = getattr(engine, probe)
    assert ask(service) == 503
    assert given_up.wait(5)
    assert service.get("/readyz").status_code == 503
    assert service.get("/healthz").status_code == 200
    assert ask(service) == 503


def test_a_stage_that_keeps_dying_is_given_up(start_service: ServiceFactory, engine: BrokenEngine) -> None:
    service = start_service()
    given_up = threading.Event()
    runtime_in(service).health.on_give_up = given_up.set
    engine.run = engine.die
    for _ in range(3):
        assert ask(service) == 503
        wait_until_ready(service)
    assert not given_up.is_set()
    assert ask(service) == 503
    assert given_up.wait(5)


def test_a_reload_brings_new_threads(start_service: ServiceFactory, engine: BrokenEngine) -> None:
    service = start_service()
    runtime = runtime_in(service)
    runtime.health.on_give_up = lambda: None
    engine.run, engine.probe = engine.die, engine.fail
    assert ask(service) == 503
    engine.run = engine.probe = engine.well
    portal = service.portal
    assert portal is not None
    portal.call(runtime.reload)
    assert service.get("/readyz").status_code == 200
    assert ask(service) == 200


def test_a_service_that_is_cut_off_waits_for_no_stage(bundle_folder: Path) -> None:
    settings, metrics, gate = settings_for(bundle_folder), Metrics(), threading.Event()
    runtime = Runtime(settings, load_models(settings, metrics), metrics)

    async def serve() -> None:
        async with runtime.running():
            await runtime.models.candidates(None)[0].pipeline.small.decoding.run(lambda: gate.wait(30))

    async def scenario() -> None:
        serving = asyncio.create_task(serve())
        await asyncio.sleep(0.1)
        serving.cancel()
        await asyncio.wait([serving], timeout=5)
        gate.set()
        assert serving.cancelled()

    asyncio.run(scenario())
