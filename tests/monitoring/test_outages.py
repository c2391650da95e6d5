"""Alerts for what lasts: an expert that falls silent, slow pictures, a service that is not ready, or gone.

The windows of the rules are shorter here: an hour is half a minute.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from service.inference.anomalymoe import Engine, Outcome, Picture
from tests.monitoring.prometheus import BUSY, LATENCY, Prometheus, prometheus, wait_until
from tests.service.conftest import encoded, listening
from tests.tiny_bundle import make_tiny_bundle, plain_picture

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]

SHORTER = 120
CLIENTS = 8
MANY = 40
PICTURES = {name: encoded(plain_picture(name)) for name in ("brick", "slate")}


class Line:
    """Pictures in front of a service, which can be stopped."""

    def __init__(self, bundle: Path) -> None:
        self._running = ExitStack()
        # Pictures that are all the same are no line that could drift.
        settings = {"drift_stride": 10**6, "watchdog_s": 100, "max_batch": CLIENTS}
        self.url = self._running.enter_context(listening(bundle, **settings))
        self._client = self._running.enter_context(httpx.Client(base_url=self.url, timeout=60))
        self._threads = self._running.enter_context(ThreadPoolExecutor(CLIENTS))

    def send(self, *products: str) -> list[int]:
        """A picture of each, at once; gives their status."""

        def post(product: str) -> int:
            return self._client.post("/detect?map=none", content=PICTURES[product]).status_code

        return list(self._threads.map(post, products))

    def send_many(self, *products: str) -> None:
        """Pictures of each in one request."""
        files = [("file", (f"{one}.png", PICTURES[one])) for one in products * MANY]
        assert self._client.post("/detect/batch?map=none", files=files).status_code == 200

    def stop(self) -> None:
        """End the service."""
        self._running.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Line, Prometheus]]:
    """A line, and a Prometheus that asks its service."""
    line = Line(make_tiny_bundle(tmp_path / "tiny"))
    try:
        target = line.url.removeprefix("http://")
        with prometheus(tmp_path / "prometheus", target, SHORTER) as watcher:
            yield line, watcher
    finally:
        line.stop()


def test_what_lasts_is_seen(watched: tuple[Line, Prometheus], monkeypatch: pytest.MonkeyPatch) -> None:
    line, watcher = watched
    wait_until(lambda: bool(watcher.query("anomoe_ready == 1")), lambda: watcher.query("up"))
    seen: set[str] = set()
    for _ in range(4):
        assert line.send("brick", "slate") == [200, 200]
        line.send_many("brick", "slate")
        time.sleep(1)
        seen |= watcher.firing()

    assert seen <= BUSY
    watcher.wait_for("AnomoeExpertSilent", meanwhile=lambda: line.send_many("brick"))  # has other experts
    assert watcher.firing() <= {"AnomoeExpertSilent", *BUSY}
    with monkeypatch.context() as slow:
        slow.setattr(Engine, "run", slowed(1.2))
        watcher.wait_for(*LATENCY, meanwhile=lambda: line.send(*["brick"] * CLIENTS))
    see_a_hung_start(line, watcher, monkeypatch)
    line.stop()
    watcher.wait_for("AnomoeDown")


def see_a_hung_start(line: Line, watcher: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread dies, and the graphs hang when the new one tries them, until they do not."""
    freed, encode = Event(), Engine._encode

    def hung(*given: Any) -> Any:
        freed.wait()
        return encode(*given)

    with monkeypatch.context() as broken:
        broken.setattr(Engine, "run", dying)
        broken.setattr(Engine, "_encode", hung)
        assert line.send("brick") == [503]
        watcher.wait_for("AnomoeNotReady", "AnomoeStageFailed")
    freed.set()
    wait_until(lambda: "AnomoeNotReady" not in watcher.firing(), watcher.firing)
    assert line.send("brick") == [200]


def slowed(seconds: float) -> Callable[[Engine, Sequence[Picture]], list[Outcome | Exception]]:
    """A machine on which a batch takes so much longer."""
    run = Engine.run

    def slow(engine: Engine, pictures: Sequence[Picture]) -> list[Outcome | Exception]:
        time.sleep(seconds)
        return run(engine, pictures)

    return slow


def dying(*_: object) -> None:
    """What no thread survives."""
    raise KeyboardInterrupt
