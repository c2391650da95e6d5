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


def test_jobs_that_wait_are_taken_in_order_as_many_as_are_asked_for() -> None:
    jobs = Jobs[int]()
    for number in range(3):
        jobs.put(number)
    assert [jobs.take(most) for most in (1, 5)] == [[0], [1, 2]]


def test_the_thread_that_came_last_is_served_first() -> None:
    jobs, taken = Jobs[str](), list[tuple[str, list[str]]]()

    def take(name: str) -> None:
        taken.append((name, jobs.take(1)))

    threads = [threading.Thread(target=take, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        idle = len(jobs._bells)
        thread.start()
        wait_for(partial(is_longer, jobs._bells, idle))
    jobs.put("a")
    wait_for(partial(is_longer, taken, 0))
    jobs.put("b")
    for thread in threads:
        thread.join(10)
    assert taken == [("second", ["a"]), ("first", ["b"])]


def test_each_job_is_taken_once_by_many_threads() -> None:
    jobs, taken = Jobs[int](), list[int]()

    def work() -> None:
        while batch := jobs.take(3):
            taken.extend(batch)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        jobs.put(number)
    jobs.close()
    for thread in threads:
        thread.join(10)
    assert sorted(taken) == list(range(2000))


def test_what_is_not_wanted_is_dropped_and_not_counted() -> None:
    jobs = Jobs[int]()
    for number in range(6):
        jobs.put(number)
    assert jobs.take(2, lambda number: number % 2 == 0) == [0, 2]
    assert len(jobs) == 3


def test_threads_that_ask_share_what_waits() -> None:
    jobs, batches = Jobs[int](), list[list[int]]()
    threads = [threading.Thread(target=lambda: batches.append(jobs.take(8))) for _ in range(2)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        wait_for(partial(is_longer, jobs._bells, number - 1))
    with jobs._lock:  # neither may take the first before the last is there
        jobs._jobs.extend(range(4))
        jobs._ring()
        jobs._ring()
    for thread in threads:
        thread.join(10)
    assert sorted(batches) == [[0, 1], [2, 3]]


def test_a_closed_queue_gives_what_waits_then_nothing() -> None:
    jobs = Jobs[int]()
    jobs.put(1)
    jobs.close()
    assert [jobs.take(1), jobs.take(1)] == [[1], []]
