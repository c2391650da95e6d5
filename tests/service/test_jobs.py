"""Jobs in order, threads the other way round."""

import threading
import time
from collections.abc import Callable, Sized
from functools import partial

from service.jobs import Jobs


def is_longer(things: Sized, length: int) -> bool:
    return len(things) > length


def wait_for(condition: Callable[[], bool]) -> None:
    stop = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.001)


def test_jobs_that_wait_are_taken_in_order() -> None:
    jobs = Jobs[int]()
    for number in range(3):
        jobs.put(number)
    assert [jobs.get() for _ in range(3)] == [0, 1, 2]


def test_the_thread_that_came_last_is_served_first() -> None:
    jobs, taken = Jobs[str](), list[tuple[str, str]]()

    def take(name: str) -> None:
        taken.append((name, jobs.get()))

    threads = [threading.Thread(target=take, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        idle = len(jobs._idle)
        thread.start()
        wait_for(partial(is_longer, jobs._idle, idle))
    jobs.put("a")
    wait_for(partial(is_longer, taken, 0))
    jobs.put("b")
    for thread in threads:
        thread.join(10)
    assert taken == [("second", "a"), ("first", "b")]


def test_each_job_is_taken_once_by_many_threads() -> None:
    jobs, taken = Jobs["int | None"](), list[int]()

    def work() -> None:
        while (job := jobs.get()) is not None:
            taken.append(job)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        jobs.put(number)
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join(10)
    assert sorted(taken) == list(range(2000))
