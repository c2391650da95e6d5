"""Bundles are exchanged without losing a request; a bad one changes nothing."""

import asyncio
import os
import shutil
import weakref
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from export.contract.bundle import Bundle, write_bundle
from service.api_keys import add_key, make_key
from service.app import create_app
from service.metrics import Metrics
from service.models.loading import load_models
from service.tuning.plan import Plan
from tests.service.conftest import encoded, settings_for
from tests.service.running import serving
from tests.tiny_bundle import plain_picture

NORMAL = encoded(plain_picture("brick"))
PNG = {"Content-Type": "image/png"}
RELOADS = int(os.environ.get("SOAK_RELOADS", "8"))


def version_of(bundle: Path, folder: Path, version: str, name: str = "tiny") -> None:
    """Write a bundle like `bundle` with another version or name to `folder`."""
    read = Bundle.read(bundle)
    files = {path: read.file_bytes(path) for path in read.manifest.files if path != "categories.safetensors"}
    manifest = read.manifest.model_copy(update={"version": version, "name": name})
    write_bundle(folder, manifest, files, read.categories.values())


class Served:
    """An application over a folder of bundles, and its admin key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key, entry = make_key("boss", "admin")
        add_key(folder / "keys.txt", entry)
        self.headers = {"X-API-Key": key, **PNG}
        settings = settings_for(folder, api_keys_file=folder / "keys.txt")
        self.metrics = Metrics()
        self.app: FastAPI = create_app(settings, load_models(settings, self.metrics), self.metrics)

    def client(self, url: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, headers=self.headers, timeout=30)


@pytest.fixture
def served(bundle_folder: Path, tmp_path: Path) -> Served:
    version_of(bundle_folder, tmp_path / "tiny", "1")
    return Served(tmp_path)


def test_a_bundle_that_lies_there_twice_looks_once(served: Served) -> None:
    shutil.copytree(served.folder / "tiny", served.folder / "tiny-copy")

    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            await client.post("/models/reload")
            assert len(served.app.state.runtime.models.all) == 1
            answers = await asyncio.gather(*(client.post("/detect", content=NORMAL) for _ in range(64)))
        assert {answer.status_code for answer in answers} <= {200, 429}

    asyncio.run(scenario())


def test_models_that_change_places_wait_for_each_other_in_one_order(
    served: Served, bundle_folder: Path
) -> None:
    version_of(bundle_folder, served.folder / "tiny-2", "2")

    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            await client.post("/models/reload")
            models = served.app.state.runtime.models
            asked = [asyncio.create_task(client.post("/detect", content=NORMAL)) for _ in range(256)]
            while not all(task.done() for task in asked):
                models.all = models.all[::-1]
                await asyncio.sleep(0)
        assert {task.result().status_code for task in asked} <= {200, 429}

    asyncio.run(scenario())


def test_a_new_version_answers_after_the_reload_and_metrics_go_on(
    served: Served, bundle_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            before = (await client.post("/detect", content=NORMAL)).json()
            same = served.app.state.runtime.models.all[0]
            await client.post("/models/reload")
            assert served.app.state.runtime.models.all[0] is same
            version_of(bundle_folder, served.folder / "tiny", "2")
            answer = await client.post("/models/reload")
            assert [model["version"] for model in answer.json()["models"]] == ["2"]
            after = (await client.post("/detect", content=NORMAL)).json()
            assert (before["model"]["version"], after["model"]["version"]) == ("1", "2")
            assert before["raw_score"] == after["raw_score"]
            text = (await client.get("/metrics")).text
        assert 'version="2"' in text
        assert 'version="1"' not in text
        assert 'anomoe_images_total{category="brick"} 2.0' in text
        assert "anomoe_batch_size_count 2.0" in text
        assert 'anomoe_reloads_total{result="done"} 2.0' in text

    asyncio.run(scenario())


def test_a_bad_bundle_changes_nothing_and_is_named(served: Served, bundle_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            models = served.app.state.runtime.models.all
            version_of(bundle_folder, served.folder / "tiny", "2")
            with next((served.folder / "tiny").glob("graphs/*")).open("ab") as graph:
                graph.write(b"more")
            answer = await client.post("/models/reload")
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:anomoe:bad-bundle")
            assert "graphs" in answer.json()["detail"]
            shutil.rmtree(served.folder / "tiny")
            assert (await client.post("/models/reload")).status_code == 422
            assert served.app.state.runtime.models.all is models
            assert (await client.post("/detect", content=NORMAL)).json()["model"]["version"] == "1"
            assert (await client.get("/readyz")).status_code == 200
            assert 'reloads_total{result="refused"} 2.0' in (await client.get("/metrics")).text

    asyncio.run(scenario())


def test_a_service_that_stops_gives_up_what_it_loads(
    served: Served, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.throttle.SHARE", 1e6)

    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            version_of(bundle_folder, served.folder / "tiny", "2")
            reload = asyncio.create_task(client.post("/models/reload"))
            await asyncio.sleep(0.2)
            assert not reload.done()
            served.app.state.runtime.leave()
            assert (await reload).status_code == 503
            assert (await client.post("/detect", content=NORMAL)).json()["model"]["version"] == "1"

    asyncio.run(scenario())


def test_bundles_come_and_go(served: Served, bundle_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            version_of(bundle_folder, served.folder / "another", "7")
            answer = await client.post("/models/reload")
            assert [model["version"] for model in answer.json()["models"]] == ["7", "1"]
            shutil.rmtree(served.folder / "tiny")
            answer = await client.post("/models/reload")
            assert [model["version"] for model in answer.json()["models"]] == ["7"]
            assert (await client.post("/detect", content=NORMAL)).json()["model"]["version"] == "7"

    asyncio.run(scenario())


def test_no_request_is_lost_while_bundles_are_reloaded_again_and_again(
    served: Served, bundle_folder: Path
) -> None:
    versions: list[str] = []
    latest = str(1 + RELOADS)
    stop = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            answer = await client.post("/detect", content=NORMAL, params={"map": "none"})
            assert answer.status_code == 200, answer.text
            versions.append(answer.json()["model"]["version"])

    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            askers = [asyncio.create_task(ask(client)) for _ in range(4)]
            for number in range(2, 2 + RELOADS):
                await asyncio.to_thread(version_of, bundle_folder, served.folder / "tiny", str(number))
                assert (await client.post("/models/reload")).status_code == 200
            while latest not in versions:  # those under way are still answered by the one before
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*askers)

    asyncio.run(scenario())
    assert set(versions) <= {str(number) for number in range(1, 2 + RELOADS)}


def test_a_model_that_has_left_is_freed(served: Served, bundle_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            assert (await client.post("/detect", content=NORMAL)).status_code == 200
            engine = weakref.ref(served.app.state.runtime.models.all[0].engine)
            version_of(bundle_folder, served.folder / "tiny", "2")
            assert (await client.post("/models/reload")).status_code == 200
            assert engine() is None

    asyncio.run(scenario())


def plan_of(app: FastAPI) -> Plan:
    return app.state.runtime.models.all[0].pipeline.plan


def test_a_new_bundle_of_the_same_name_or_graphs_keeps_the_plan(served: Served, bundle_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(served.app) as url, served.client(url) as client:
            first = plan_of(served.app)
            assert first.source == "rule"
            version_of(bundle_folder, served.folder / "tiny", "2")
            await client.post("/models/reload")
            second = plan_of(served.app)
            assert second.source == "reload"
            changed = {"source", "batch_s"}
            assert second.model_dump(exclude=changed) == first.model_dump(exclude=changed)
            version_of(bundle_folder, served.folder / "tiny", "3", name="renamed")
            answer = await client.post("/models/reload")
            (model,) = answer.json()["models"]
            assert (model["name"], model["plan"]["source"]) == ("renamed", "reload")

    asyncio.run(scenario())
