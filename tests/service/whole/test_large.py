"""Large pictures take long to decode and to draw: nobody else waits for them, their clients take turns."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from service.detection import anomalymoe
from service.images.decode import Opened
from service.models import pipeline
from tests.service.asking import runtime_in
from tests.service.conftest import ServiceFactory, encoded
from tests.tiny_bundle import plain_picture

SIZE = (1030, pipeline.LARGE // 1024)
LARGE = encoded(plain_picture("brick").resize(SIZE))
NORMAL = encoded(plain_picture("brick"))

Function = Callable[..., object]


class Gate:
    """Holds up whoever works on a large picture, in one function of the service, until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._is_open = threading.Event()

    def open(self) -> None:
        self._is_open.set()

    def around(self, function: Function) -> Function:
        def held(*arguments: object) -> object:
            result = function(*arguments)
            pictures = [one for one in (result, *arguments) if isinstance(one, Opened)]
            if any(picture.size == SIZE for picture in pictures):
                self.entered.set()
                assert self._is_open.wait(5)
            return result

        return held


def ask(service: TestClient, data: bytes, client: str = "") -> int:
    headers = {"Content-Type": "image/png", "X-Client-ID": client}
    return service.post("/detect", content=data, headers=headers).status_code


@pytest.mark.parametrize(("module", "step"), [(pipeline, "open_picture"), (anomalymoe, "draw")])
def test_nobody_waits_for_large_pictures(
    start_service: ServiceFactory, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    gate = Gate()
    monkeypatch.setattr(module, step, gate.around(getattr(module, step)))
    service = start_service(host_threads=1)
    with ThreadPoolExecutor(8) as pool:
        large = [pool.submit(ask, service, LARGE, "mad") for _ in range(8)]
        assert gate.entered.wait(10)
        assert [ask(service, NORMAL, client) for client in ("mad", "other")] == [200, 200]
        assert not any(one.done() for one in large)
        gate.open()
        assert {one.result() for one in large} == {200}


def test_clients_take_turns_with_large_pictures(
    start_service: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(pipeline, "open_picture", gate.around(pipeline.open_picture))
    service = start_service(host_threads=1)
    order: list[str] = []

    def answered(client: str) -> None:
        assert ask(service, LARGE, client) == 200
        order.append(client)

    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(answered, "mad") for _ in range(8)]
        assert gate.entered.wait(10)
        waiting.append(pool.submit(answered, "other"))
        models = runtime_in(service).models
        stop = monotonic() + 4
        while models.queue_depth() < 9 - 4 and monotonic() < stop:  # one thread: four are let through
            sleep(0.005)
        gate.open()
        for one in waiting:
            one.result()
    assert order.index("other") <= 5


def test_a_large_picture_gets_its_map(service: TestClient) -> None:
    response = service.post("/detect", content=LARGE, headers={"Content-Type": "image/png"})
    anomaly_map = response.json()["anomaly_map"]
    assert (anomaly_map["width"], anomaly_map["height"]) == SIZE
