"""A real Prometheus over the real service: every expression has an answer, causes set off their alerts."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from itertools import count
from pathlib import Path

import httpx
import pytest
import yaml
from panels import DASHBOARDS
from PIL import Image, ImageEnhance

from service.api_keys import add_key, make_key
from service.inference.anomalymoe import Engine
from service.inference.backends.base import GraphError
from tests.monitoring.prometheus import BUSY, RULES, Prometheus, prometheus, wait_until
from tests.service.conftest import encoded, listening
from tests.tiny_zero_shot_bundle import make_tiny_zero_shot_bundle
from training.demo.factory.registry import PRODUCTS
from training.demo.factory.render import render

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]

DEMO = Path(__file__).parents[2] / "bundles" / "demo"
QUEUE = 8
VARIABLES = {"$job": ".*", "$instance": ".*", "$product": ".*", "$__rate_interval": "1m"}


class Line:
    """A line of pictures in front of a service, and its operator; one request at a time."""

    def __init__(self, url: str, keys: Path) -> None:
        key, entry = make_key("operator", "admin")
        add_key(keys, entry)
        self.url = url
        self.client = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60)
        self._seeds = count(777_000)

    def send(self, data: bytes, times: int, status: int = 200, **headers: str) -> None:
        for _ in range(times):
            answer = self.client.post("/detect?map=none", content=data, headers=headers)
            assert answer.status_code == status, answer.text

    def send_normal(self) -> None:
        """A picture of each product, and one by name only."""
        for product in PRODUCTS:
            self.send(drawn(product, next(self._seeds)), 1)
        answer = self.client.post("/zero-shot?class_names=slate&map=none", content=PICTURE)
        assert answer.status_code == 200, answer.text

    def hold(self, number: int) -> list[socket.socket]:
        """Requests whose bodies do not come, of a client each."""
        host, port = self.url.removeprefix("http://").split(":")
        head = "POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 9\r\n"
        key = f"X-API-Key: {self.client.headers['X-API-Key']}\r\n\r\n"
        held = []
        for _ in range(number):
            held.append(socket.create_connection((host, int(port))))
            held[-1].sendall(f"{head}{key}".encode())
        return held


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Line, Prometheus, Path]]:
    """A line, a Prometheus that asks its service, and the folder of the bundle."""
    gpus = tmp_path / "gpus"
    (gpus / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr("service.inference.backends.loading.GPUS", gpus)
    bundle = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    bundles = f"{bundle},{make_tiny_zero_shot_bundle(tmp_path / 'zero-shot')}"
    keys = tmp_path / "keys.txt"
    keys.touch()
    with ExitStack() as stack:
        settings = {"api_keys_file": str(keys), "queue_size": QUEUE, "device": "auto"}
        add_key(keys, make_key("first", "infer")[1])
        url = stack.enter_context(listening(bundles, **settings))
        line = Line(url, keys)
        stack.callback(line.client.close)
        watcher = stack.enter_context(prometheus(tmp_path / "prometheus", url.removeprefix("http://")))
        yield line, watcher, bundle


def test_a_line_is_seen_from_outside(
    watched: tuple[Line, Prometheus, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, watcher, bundle = watched
    wait_until(lambda: bool(watcher.query("anomoe_ready == 1")), lambda: watcher.query("up"))
    see_normal_traffic(line, watcher)
    see_other_pictures(line, watcher)
    see_load(line, watcher)
    see_failures(line, watcher, bundle, monkeypatch)


def see_normal_traffic(line: Line, watcher: Prometheus) -> None:
    """Everything answers, nothing fires, but for the GPU that the machine shows while the CPU computes."""
    missing: list[str] = []

    def all_answer() -> bool:
        line.send_normal()
        missing[:] = [one for one in expressions() if not watcher.query(one)]
        return not missing

    wait_until(all_answer, lambda: missing)
    watcher.wait_for("AnomoeGpuUnused")
    assert watcher.firing() - BUSY <= {"AnomoeGpuUnused"}


def see_other_pictures(line: Line, watcher: Prometheus) -> None:
    """Another thing, the wrong product, less light."""
    line.send(encoded(Image.effect_noise((256, 256), 100)), 20)
    watcher.wait_for("AnomoeUnknownProduct")
    for _ in range(30):
        answer = line.client.post("/detect?map=none&category=board", content=PICTURE)
        assert answer.json()["reason"] == "not_this_product"
    watcher.wait_for("AnomoeNotThisProduct", "AnomoeRejectsAboveAlpha", "AnomoeDrift")
    line.client.post("/drift/reset").raise_for_status()
    wait_until(lambda: "AnomoeDrift" not in watcher.firing(), watcher.firing)
    for light in (1, 0.7):
        for seed in range(40):
            picture = Image.open(BytesIO(drawn("fabric", 778_000 + seed)))
            line.send(encoded(ImageEnhance.Brightness(picture).enhance(light)), 1)
    watcher.wait_for("AnomoeDrift")


def see_load(line: Line, watcher: Prometheus) -> None:
    """Late requests, bodies that do not come, and what is refused meanwhile."""
    line.send(PICTURE, 10, 504, **{"X-Deadline-Ms": "0.001"})
    watcher.wait_for("AnomoeDeadlinesMissed", "AnomoeAvailabilityBurnsFast", "AnomoeAvailabilityBurnsSlowly")
    wanted = {"AnomoeQueueNearCapacity", "AnomoeRefusals"}

    def refused() -> bool:
        """Hold what may be held anew, since bodies that do not come are given up after a while."""
        held = line.hold(QUEUE)
        for _ in range(20):
            line.client.post("/detect", content=b"none")
        wanted.difference_update(watcher.firing())
        for one in held:
            one.close()
        return not wanted

    wait_until(refused, lambda: (wanted, watcher.query("anomoe_admitted")))


def see_failures(line: Line, watcher: Prometheus, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad bundle, a graph that fails, a thread that dies."""
    (bundle / "manifest.json").write_text("{}")
    assert line.client.post("/models/reload").status_code == 422
    watcher.wait_for("AnomoeReloadFailed")
    with monkeypatch.context() as broken:
        broken.setattr(Engine, "run", failing(GraphError("graph")))
        line.send(PICTURE, 3, 500)
        watcher.wait_for("AnomoeErrors")
        broken.setattr(Engine, "run", failing(KeyboardInterrupt()))
        line.send(PICTURE, 1, 503)
    watcher.wait_for("AnomoeStageFailed")


def drawn(product: str, seed: int) -> bytes:
    """A normal picture as a file."""
    return encoded(render(product, seed)[0])


PICTURE = drawn("fabric", 776_999)


def expressions() -> list[str]:
    """Of all panels and recording rules, with values for the variables."""
    panels = [query for panels in DASHBOARDS.values() for panel in panels for query, _ in panel.queries]
    for name, value in VARIABLES.items():
        panels = [one.replace(name, value) for one in panels]
    groups = [group for file in RULES.glob("*.yml") for group in yaml.safe_load(file.read_text())["groups"]]
    return panels + [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]


def failing(error: BaseException) -> Callable[..., None]:
    """A method that only raises."""

    def run(*_: object) -> None:
        raise error

    return run
