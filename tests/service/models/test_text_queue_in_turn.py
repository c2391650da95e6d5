"""Class names that are new: clients take turns, and nothing is encoded for those who have left."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.inference.text_tower import ClassText, TextTower
from service.metrics import Metrics
from service.models.loading import load_models
from service.models.model import ZeroShotModel
from tests.service.asking import PNG
from tests.service.conftest import encoded, picture, settings_for
from tests.service.running import serving

BRICK = encoded(picture("brick"))


class HeldTower:
    """Stands in for `TextTower.run`, one name at a time: after `hold` it encodes while `gate` is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.encoded: list[str] = []
        run = TextTower.run

        def held(tower: TextTower, names: Sequence[str]) -> list[ClassText | Exception]:
            self.encoded += names
            assert self.gate.wait(10)
            return run(tower, names)

        monkeypatch.setattr("service.inference.text_tower.MAX_PROMPTS", 1)
        self.metrics = Metrics()
        settings = settings_for(folder)
        self.app = create_app(settings, load_models(settings, self.metrics), self.metrics)
        monkeypatch.setattr(TextTower, "run", held)

    @property
    def model(self) -> ZeroShotModel:
        return self.app.state.runtime.models.zero_shot()

    def scenario(self, steps: "Callable[[Asking], Awaitable[None]]") -> None:
        """What happens while the service listens."""

        async def over_connections() -> None:
            limits = httpx.Limits(max_connections=50)
            async with serving(self.app) as url, httpx.AsyncClient(base_url=url, limits=limits) as client:
                await steps(Asking(client))

        asyncio.run(over_connections())


class Asking:
    """Requests that begin at once."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def __call__(self, *names: str, camera: str = "a", **headers: str) -> "asyncio.Task[httpx.Response]":
        given = {**PNG, "X-Client-ID": camera, **headers}
        query = {"class_names": list(names), "map": "none"}
        return asyncio.create_task(
            self._client.post("/zero-shot", content=BRICK, headers=given, params=query, timeout=10)
        )


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch, zero_shot_folder: Path) -> HeldTower:
    return HeldTower(monkeypatch, zero_shot_folder)


def test_nothing_is_encoded_for_callers_who_have_hung_up(tower: HeldTower) -> None:
    async def steps(ask: Asking) -> None:
        tower.gate.clear()
        leaving = [ask(f"bolt {number}", f"nut {number}") for number in range(5)]
        await until(lambda: tower.model.depth == 9)
        staying = ask("nut 4", "screw", camera="b")
        await until(lambda: tower.model.depth == 11)
        for one in leaving:
            one.cancel()
        await until(lambda: tower.model.name_turns.depth == 0)
        tower.gate.set()
        assert (await staying).status_code == 200

    tower.scenario(steps)
    assert tower.encoded[0].startswith(("bolt", "nut"))
    assert sorted(tower.encoded[1:]) == ["nut 4", "screw"]
    assert "anomoe_abandoned_total 5.0" in tower.metrics.render().decode()


def test_a_deadline_holds_while_names_are_encoded(tower: HeldTower) -> None:
    async def steps(ask: Asking) -> None:
        tower.gate.clear()
        running = ask("bolt")
        await until(lambda: tower.encoded == ["bolt"])
        late = await ask("nut", **{"X-Deadline-Ms": "100"})
        assert (late.status_code, late.json()["detail"]) == (
            504,
            "the deadline passed before the class names were encoded",
        )
        tower.gate.set()
        assert (await running).status_code == 200

    tower.scenario(steps)
    assert tower.encoded == ["bolt"]


def test_a_known_name_waits_for_no_new_ones(tower: HeldTower) -> None:
    async def steps(ask: Asking) -> None:
        assert (await ask("brick")).status_code == 200
        tower.gate.clear()
        flood = [ask(f"bolt {number}") for number in range(30)]
        await until(lambda: tower.model.depth == 29)
        assert (await ask("brick", camera="b")).status_code == 200
        tower.gate.set()
        assert {(await one).status_code for one in flood} == {200}

    tower.scenario(steps)


@pytest.mark.parametrize(("name", "runs"), [("screw", 21), ("nut 9", 20)])
def test_clients_take_turns_at_the_text_tower_also_for_a_name_that_another_has_in_line(
    tower: HeldTower, name: str, runs: int
) -> None:
    async def steps(ask: Asking) -> None:
        tower.gate.clear()
        flood = [ask(f"bolt {number}", f"nut {number}") for number in range(10)]
        await until(lambda: tower.model.depth == 19)
        other = ask(name, camera="b")
        await until(lambda: tower.model.depth == 20)
        tower.gate.set()
        assert {(await one).status_code for one in [other, *flood]} == {200}

    tower.scenario(steps)
    assert tower.encoded.index(name) <= 3
    assert len(tower.encoded) == runs
