"""Processes that watch a folder and are killed: no picture is lost or doubled."""

import asyncio
import multiprocessing
import os
import random
import signal
from multiprocessing.synchronize import Event
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from service.watch.folder import WatchedFolder
from service.watch.watching import Watch
from tests.service.watch.stub import StubClient
from tests.service.watch.test_watching import SUFFIXES, check, sort

KILLS = 50
WAITING = 60  # pictures when a process starts
KINDS = ("good", "bad", "other", "broken")


def watch_forever(folder: str, at_work: Event) -> None:
    """A process that watches until it is killed."""
    watch = Watch(WatchedFolder(Path(folder), SUFFIXES, 0), {}, lambda _: at_work.set(), print)
    client: Any = StubClient()
    asyncio.run(watch.run(client, once=False))


@pytest.mark.alone
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    names: set[str] = set()
    interrupted = 0
    for _ in range(KILLS):
        for _ in range(WAITING - len(list(tmp_path.glob("*.png")))):
            name = f"{len(names)}.png"
            (tmp_path / f".{name}").write_text(random.choice(KINDS))
            (tmp_path / f".{name}").rename(tmp_path / name)
            names.add(name)
        at_work = processes.Event()
        process = processes.Process(target=watch_forever, args=(str(tmp_path), at_work))
        process.start()
        assert at_work.wait(60)
        sleep(random.uniform(0, 0.05))
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        process.close()
        interrupted += any((tmp_path / "judging").iterdir())
    assert interrupted > KILLS // 10, "hardly a kill met a picture on its way"
    sort(tmp_path)
    check(tmp_path, names)
