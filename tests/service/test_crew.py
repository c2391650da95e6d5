"""Jobs in order, threads the other way round, and the most pressing stage first."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread, current_thread

import pytest

from service.crew import Crew
from service.jobs import Jobs, Rank


def wait_until(log: "Log", batches: int, crew: Crew, sleeping: int = 0) -> None:
    wait_for(lambda: len(log.batches) == batches and len(crew._bells) >= sleeping)


def wait_for(condition: Callable[[], bool]) -> None:
    stop = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.001)


class Log:
    """Notes what each batch was, and the thread it was done by; a batch waits while `gate` is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[Thread] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.threads.append(current_thread())
        assert self.gate.wait(10)


@pytest.fixture
def log() -> Log:
    return Log()


@contextmanager
def serving(crew: Crew, *queues: Jobs[int]) -> Generator[None, None, None]:
    for jobs in queues:
        crew.serve(jobs)
    wait_for(lambda: len(crew._bells) == crew._threads)
    yield
    for jobs in queues:
        crew.close(jobs)
    wait_for(lambda: not any(map(len, queues)))
    for jobs in queues:
        crew.leave(jobs)
    wait_for(lambda: not crew._members)


def occupied(crew: Crew, log: Log, jobs: Jobs[int], threads: int = 1) -> None:
    """Make the threads busy with a job -1 each."""
    log.gate.clear()
    for busy in range(1, threads + 1):
        crew.put(jobs, -1)
        wait_until(log, busy, crew)


def test_jobs_are_taken_in_order_as_many_as_are_asked_for(log: Log) -> None:
    crew, jobs = Crew("crew", 1), Jobs[int](log, most=lambda: 2)
    with serving(crew, jobs):
        occupied(crew, log, jobs)
        for number in range(3):
            crew.put(jobs, number)
        assert len(jobs) == 3
        log.gate.set()
        wait_for(lambda: len(log.batches) == 3)
    assert log.batches == [[-1], [0, 1], [2]]


def test_the_thread_that_worked_last_is_woken_first(log: Log) -> None:
    crew, jobs = Crew("crew", 3), Jobs[int](log, at_once=3)
    with serving(crew, jobs):
        for number in range(20):
            crew.put(jobs, number)
            wait_until(log, number + 1, crew, sleeping=3)
    assert len(set(log.threads)) == 1


def test_each_job_is_taken_once_by_many_threads() -> None:
    taken: list[int] = []
    crew, jobs = Crew("crew", 4), Jobs[int](taken.extend, at_once=4, most=lambda: 3)
    with serving(crew, jobs):
        for number in range(2000):
            crew.put(jobs, number)
        wait_for(lambda: len(taken) >= 2000)
    assert sorted(taken) == list(range(2000))


def test_no_more_threads_at_once_than_a_stage_may_have(log: Log) -> None:
    crew, jobs = Crew("crew", 3), Jobs[int](log, at_once=2)
    with serving(crew, jobs):
        occupied(crew, log, jobs, threads=2)
        crew.put(jobs, 7)
        time.sleep(0.02)
        assert log.batches == [[-1], [-1]]
        log.gate.set()
        wait_for(lambda: log.batches[2:] == [[7]])


def test_what_is_not_wanted_is_dropped_and_not_counted(log: Log) -> None:
    crew = Crew("crew", 1)
    jobs = Jobs[int](log, most=lambda: 2, is_wanted=lambda number: number % 2 == 0 or number < 0)
    with serving(crew, jobs):
        occupied(crew, log, jobs)
        for number in (1, 0, 3, 2, 5):
            crew.put(jobs, number)
        log.gate.set()
        wait_for(lambda: not len(jobs))
    assert log.batches == [[-1], [0, 2]]


def test_threads_that_ask_share_what_waits(log: Log) -> None:
    crew, jobs = Crew("crew", 2), Jobs[int](log, at_once=2, most=lambda: 8)
    with serving(crew, jobs):
        log.gate.clear()
        with crew._lock:  # neither may take the first before the last is there
            jobs.waiting.extend(range(4))
            crew._ring()
        wait_for(lambda: len(log.batches) == 2)
        log.gate.set()
    assert sorted(log.batches) == [[0, 1], [2, 3]]


def test_the_most_pressing_stage_goes_first_by_what_waits() -> None:
    first, second = Log(), Log()
    crew = Crew("crew", 1)
    low = Jobs[int](
        first, most=lambda: 3, rank=lambda jobs: Rank.FULL_BATCH if len(jobs) >= 3 else Rank.BATCH
    )
    high = Jobs[int](second, rank=lambda _: Rank.DECODE)
    order: list[str] = []
    with serving(crew, low, high):
        occupied(crew, first, low)
        for number in range(2):
            crew.put(low, number)
            crew.put(high, number)
        crew.put(low, 2)
        crew.put(low, 3)
        low.work = lambda batch: order.append(f"low {batch}")
        high.work = lambda batch: order.append(f"high {batch}")
        first.gate.set()
        wait_for(lambda: len(order) == 4)
    assert order == ["low [0, 1, 2]", "high [0]", "high [1]", "low [3]"]


def test_a_thread_goes_on_with_what_it_left_while_others_sleep(log: Log) -> None:
    crew = Crew("crew", 3)
    late = Jobs[int](log, at_once=3)

    def pass_on(batch: list[int]) -> None:
        log(batch)
        crew.put(late, batch[0] + 100)

    early = Jobs[int](pass_on, at_once=3)
    with serving(crew, early, late):
        for number in range(20):
            crew.put(early, number)
            wait_until(log, 2 * number + 2, crew, sleeping=3)
    assert len(set(log.threads)) == 1


def test_what_a_thread_leaves_beyond_its_own_next_job_wakes_others() -> None:
    crew, meeting, met = Crew("crew", 3), threading.Barrier(3), list[int]()

    def meet(batch: list[int]) -> None:
        met.append(meeting.wait(10))

    late = Jobs[int](meet, at_once=3)

    def pass_on(_: list[int]) -> None:
        for number in range(3):
            crew.put(late, number)

    early = Jobs[int](pass_on)
    with serving(crew, early, late):
        crew.put(early, 0)
        wait_for(lambda: len(met) == 3)


@pytest.fixture
def large() -> Log:
    return Log()


def giving_way(log: Log, at_once: int = 2) -> Jobs[int]:
    jobs = Jobs[int](log, at_once=at_once)
    jobs.gives_way = True
    return jobs


def test_what_gives_way_has_the_threads_that_would_be_idle(log: Log, large: Log) -> None:
    crew, jobs, aside = Crew("crew", 2, aside=2), Jobs[int](log, at_once=2), giving_way(large, at_once=4)
    with serving(crew, jobs, aside):
        occupied(crew, large, aside, threads=2)
        crew.put(aside, 7)
        time.sleep(0.02)
        assert large.batches == [[-1], [-1]]
        large.gate.set()
        wait_for(lambda: large.batches[2:] == [[7]])


def test_nothing_waits_for_what_gives_way(log: Log, large: Log) -> None:
    crew, jobs, aside = Crew("crew", 2, aside=2), Jobs[int](log, at_once=2), giving_way(large)
    with serving(crew, jobs, aside):
        occupied(crew, large, aside, threads=2)
        occupied(crew, log, jobs, threads=2)
        crew.put(jobs, 1)
        time.sleep(0.02)
        assert log.batches == [[-1], [-1]]  # which have no more threads than without the others
        log.gate.set()
        wait_for(lambda: log.batches[2:] == [[1]])
        large.gate.set()


def test_what_gives_way_has_one_thread_whatever_else_there_is_to_do(log: Log, large: Log) -> None:
    crew, jobs, aside = Crew("crew", 2, aside=2), Jobs[int](log, at_once=2), giving_way(large)
    with serving(crew, jobs, aside):
        occupied(crew, log, jobs, threads=2)
        occupied(crew, large, aside)
        crew.put(aside, 1)
        time.sleep(0.02)
        assert large.batches == [[-1]]
        log.gate.set()  # and the other one as soon as a thread is idle
        wait_for(lambda: large.batches == [[-1], [1]])
        large.gate.set()


def test_a_thread_leaves_nothing_for_those_that_have_no_room(log: Log) -> None:
    crew, jobs = Crew("crew", 2, aside=2), Jobs[int](log, at_once=3, most=lambda: 8)
    with serving(crew, jobs):
        occupied(crew, log, jobs)
        with crew._lock:  # it may not take the first before the last is there
            jobs.waiting.extend(range(4))
            crew._ring()
        wait_for(lambda: log.batches[1:] == [[0, 1, 2, 3]])
        log.gate.set()


def test_closed_jobs_are_finished_and_their_end_is_told_once(log: Log) -> None:
    ends: list[bool] = []
    crew = Crew("crew", 1)
    jobs = Jobs[int](log, on_end=lambda: ends.append(True))
    with serving(crew, jobs):
        occupied(crew, log, jobs)
        crew.put(jobs, 1)
        crew.close(jobs)
        assert not crew.put(jobs, 2)
        assert ends == []
        log.gate.set()
        wait_for(lambda: ends == [True])
    assert log.batches == [[-1], [1]]


def test_a_thread_that_dies_is_told_of_and_made_anew_for_the_next(log: Log) -> None:
    deaths: list[BaseException] = []

    def die(_: list[int]) -> None:
        raise SystemExit

    crew = Crew("crew", 2)
    dying, well = Jobs[int](die, on_death=deaths.append), Jobs[int](log)
    with serving(crew, dying, well):
        crew.put(dying, 1)
        wait_for(lambda: len(deaths) == 1)
        assert isinstance(deaths[0], SystemExit)
        crew.put(well, 1)
        wait_for(lambda: log.batches == [[1]])
        crew.leave(dying)
        crew.serve(dying)
        wait_for(lambda: len(crew._bells) == 2)


def test_a_thread_that_hangs_in_jobs_that_are_left_is_replaced_and_ends(log: Log) -> None:
    hung, well = Log(), log
    crew = Crew("crew", 1)
    bad, good = Jobs[int](hung), Jobs[int](well)
    with serving(crew, bad, good):
        occupied(crew, hung, bad)
        crew.put(good, 1)
        crew.leave(bad)
        crew.serve(Jobs[int](hung))
        wait_for(lambda: well.batches == [[1]])
        hung.gate.set()
        hung.threads[0].join(10)
        assert not hung.threads[0].is_alive()
        crew.leave(crew._served[-1])


def test_what_a_thread_put_for_itself_is_done_by_another_when_it_is_left() -> None:
    crew, log = Crew("crew", 2), Log()

    def put_and_be_left(_: list[int]) -> None:
        crew.put(later, 1)
        crew.leave(sooner)

    sooner, later = Jobs(put_and_be_left), Jobs(log)
    crew.serve(sooner)
    crew.serve(later)
    wait_for(lambda: len(crew._bells) == 2)
    crew.put(sooner, 0)
    wait_until(log, 1, crew)
    crew.leave(later)
