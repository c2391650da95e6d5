"""Stages that tell what was done with them, and a pool of threads that serves them."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread, current_thread

from service.scheduling.worker_pool import StageQueue, WorkerPool


def wait_until(log: "Log", batches: int, pool: WorkerPool, sleeping: int = 0) -> None:
    wait_for(lambda: len(log.batches) == batches and len(pool._sleeping) >= sleeping)


def wait_for(condition: Callable[[], bool]) -> None:
    stop = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.001)


class Log(StageQueue[int]):
    """Notes what each batch was, and the thread it was done by; a batch waits while `gate` is closed."""

    def __init__(self, workers: int = 1, most: int = 1, is_background: bool = False) -> None:
        super().__init__(workers)
        self.is_background = is_background
        self.most = most
        self.batches: list[list[int]] = []
        self.threads: list[Thread] = []
        self.deaths: list[BaseException] = []
        self.ends = 0
        self.gate = threading.Event()
        self.gate.set()

    def max_batch(self) -> int:
        return self.most

    def work(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.threads.append(current_thread())
        assert self.gate.wait(10)

    def on_worked(self) -> None:
        """Nothing follows."""

    def on_death(self, error: BaseException) -> None:
        self.deaths.append(error)

    def on_drained(self) -> None:
        self.ends += 1


class Doing(Log):
    """Does what it is told with each batch."""

    def __init__(self, do: Callable[[list[int]], object], workers: int = 1, most: int = 1) -> None:
        super().__init__(workers, most)
        self.do = do

    def work(self, batch: list[int]) -> None:
        self.do(batch)


@contextmanager
def serving(pool: WorkerPool, *stages: Log) -> Generator[None, None, None]:
    for stage in stages:
        pool.serve(stage)
    wait_for(lambda: len(pool._sleeping) == pool._threads)
    yield
    for stage in stages:
        pool.close(stage)
    wait_for(lambda: not any(stage.waiting for stage in stages))
    for stage in stages:
        pool.abandon(stage)
    wait_for(lambda: not pool._work_of)


def occupied(pool: WorkerPool, stage: Log, threads: int = 1) -> None:
    """Make the threads busy with a job -1 each."""
    stage.gate.clear()
    for busy in range(1, threads + 1):
        pool.put(stage, -1)
        wait_until(stage, busy, pool)


def put_together(pool: WorkerPool, stage: Log, jobs: int) -> None:
    """Leave jobs of which none may be taken before the last is there, for one thread that sleeps."""
    with pool._lock:
        stage.waiting.extend(range(jobs))
        pool._wake_one()
