"""Jobs in order, threads the other way round, and the most pressing stage first."""

import threading
import time

from service.scheduling.worker_pool import Priority, WorkerPool
from tests.service.scheduling.stages import Doing, Log, occupied, put_together, serving, wait_for, wait_until


def test_jobs_are_taken_in_order_as_many_as_are_asked_for() -> None:
    pool, stage = WorkerPool("pool", 1), Log(most=2)
    with serving(pool, stage):
        occupied(pool, stage)
        for number in range(3):
            pool.put(stage, number)
        assert len(stage.waiting) == 3
        stage.gate.set()
        wait_for(lambda: len(stage.batches) == 3)
    assert stage.batches == [[-1], [0, 1], [2]]


def test_the_thread_that_worked_last_is_woken_first() -> None:
    pool, stage = WorkerPool("pool", 3), Log(workers=3)
    with serving(pool, stage):
        for number in range(20):
            pool.put(stage, number)
            wait_until(stage, number + 1, pool, sleeping=3)
    assert len(set(stage.threads)) == 1


def test_each_job_is_taken_once_by_many_threads() -> None:
    taken: list[int] = []
    pool, stage = WorkerPool("pool", 4), Doing(taken.extend, workers=4, most=3)
    with serving(pool, stage):
        for number in range(2000):
            pool.put(stage, number)
        wait_for(lambda: len(taken) >= 2000)
    assert sorted(taken) == list(range(2000))


def test_no_more_threads_at_once_than_a_stage_may_have() -> None:
    pool, stage = WorkerPool("pool", 3), Log(workers=2)
    with serving(pool, stage):
        occupied(pool, stage, threads=2)
        pool.put(stage, 7)
        time.sleep(0.02)
        assert stage.batches == [[-1], [-1]]
        stage.gate.set()
        wait_for(lambda: stage.batches[2:] == [[7]])


def test_a_job_that_waits_can_be_removed() -> None:
    pool, stage = WorkerPool("pool", 1), Log(most=2)
    with serving(pool, stage):
        occupied(pool, stage)
        for number in range(3):
            pool.put(stage, number)
        assert pool.remove(stage, 1)
        assert not pool.remove(stage, 1)
        assert not pool.remove(stage, -1)  # which is at work
        stage.gate.set()
        wait_for(lambda: not stage.waiting)
    assert stage.batches == [[-1], [0, 2]]


def test_threads_that_are_idle_share_what_waits() -> None:
    pool, stage = WorkerPool("pool", 2), Log(workers=2, most=8)
    with serving(pool, stage):
        stage.gate.clear()
        put_together(pool, stage, 4)
        wait_for(lambda: len(stage.batches) == 2)
        stage.gate.set()
    assert sorted(stage.batches) == [[0, 1], [2, 3]]


def test_a_thread_leaves_nothing_for_those_that_have_no_room() -> None:
    pool, stage = WorkerPool("pool", 2, reserve=2), Log(workers=3, most=8)
    with serving(pool, stage):
        occupied(pool, stage)
        put_together(pool, stage, 4)
        wait_for(lambda: stage.batches[1:] == [[0, 1, 2, 3]])
        stage.gate.set()


def test_the_most_pressing_stage_goes_first_by_what_waits() -> None:
    class Batches(Doing):
        def priority(self) -> Priority:
            return Priority.FULL_BATCH if len(self.waiting) >= 3 else Priority.BATCH

    class Pictures(Doing):
        def priority(self) -> Priority:
            return Priority.DECODE

    order: list[str] = []
    pool, busy = WorkerPool("pool", 1), Log()
    batches = Batches(lambda batch: order.append(f"compute {batch}"), most=3)
    pictures = Pictures(lambda batch: order.append(f"decode {batch}"))
    with serving(pool, busy, batches, pictures):
        occupied(pool, busy)
        for number in range(4):
            pool.put(batches, number)
        for number in range(2):
            pool.put(pictures, number)
        busy.gate.set()
        wait_for(lambda: len(order) == 4)
    assert order == ["compute [0, 1, 2]", "decode [0]", "decode [1]", "compute [3]"]


def test_what_a_batch_leaves_room_for_wakes_others() -> None:
    pool, meeting, met = WorkerPool("pool", 3), threading.Barrier(3), list[int]()
    stage = Doing(lambda _: met.append(meeting.wait(10)), workers=3)
    with serving(pool, stage):
        put_together(pool, stage, 3)
        wait_for(lambda: len(met) == 3)


def test_the_background_has_the_threads_that_would_be_idle() -> None:
    pool, stage = WorkerPool("pool", 2, reserve=2), Log(workers=2)
    large = Log(workers=4, is_background=True)
    with serving(pool, stage, large):
        occupied(pool, large, threads=2)
        pool.put(large, 7)
        time.sleep(0.02)
        assert large.batches == [[-1], [-1]]
        large.gate.set()
        wait_for(lambda: large.batches[2:] == [[7]])


def test_nothing_waits_for_the_background() -> None:
    pool, stage = WorkerPool("pool", 2, reserve=2), Log(workers=2)
    large = Log(workers=2, is_background=True)
    with serving(pool, stage, large):
        occupied(pool, large, threads=2)
        occupied(pool, stage, threads=2)
        pool.put(stage, 1)
        time.sleep(0.02)
        assert stage.batches == [[-1], [-1]]  # which have no more threads than without the others
        stage.gate.set()
        wait_for(lambda: stage.batches[2:] == [[1]])
        large.gate.set()


def test_the_background_has_one_thread_whatever_else_there_is_to_do() -> None:
    pool, stage = WorkerPool("pool", 2, reserve=2), Log(workers=2)
    large = Log(workers=2, is_background=True)
    with serving(pool, stage, large):
        occupied(pool, stage, threads=2)
        occupied(pool, large)
        pool.put(large, 1)
        time.sleep(0.02)
        assert large.batches == [[-1]]
        stage.gate.set()  # and the other one as soon as a thread is idle
        wait_for(lambda: large.batches == [[-1], [1]])
        large.gate.set()


def test_a_closed_stage_is_finished_and_its_end_is_told_once() -> None:
    pool, stage = WorkerPool("pool", 1), Log()
    with serving(pool, stage):
        occupied(pool, stage)
        pool.put(stage, 1)
        pool.close(stage)
        assert not pool.put(stage, 2)
        assert stage.ends == 0
        stage.gate.set()
        wait_for(lambda: stage.ends == 1)
        assert stage.batches == [[-1], [1]]


def test_a_closed_stage_ends_with_the_removal_of_its_last_job() -> None:
    pool, busy, stage = WorkerPool("pool", 1), Log(), Log()
    with serving(pool, busy, stage):
        occupied(pool, busy)
        pool.put(stage, 1)
        pool.close(stage)
        assert pool.remove(stage, 1)
        assert stage.ends == 1
        busy.gate.set()


def test_a_thread_that_dies_is_told_of_and_made_anew_for_the_next() -> None:
    def die(_: list[int]) -> None:
        raise SystemExit

    pool, dying, well = WorkerPool("pool", 2), Doing(die), Log()
    with serving(pool, dying, well):
        pool.put(dying, 1)
        wait_for(lambda: len(dying.deaths) == 1)
        assert isinstance(dying.deaths[0], SystemExit)
        pool.put(well, 1)
        wait_for(lambda: well.batches == [[1]])
        pool.abandon(dying)
        pool.serve(dying)
        wait_for(lambda: len(pool._sleeping) == 2)


def test_a_thread_that_hangs_in_an_abandoned_stage_is_replaced_and_ends() -> None:
    pool, hung, well = WorkerPool("pool", 1), Log(), Log()
    with serving(pool, hung, well):
        occupied(pool, hung)
        pool.put(hung, 1)
        pool.put(well, 1)
        pool.abandon(hung)
        pool.serve(hung)
        wait_for(lambda: well.batches == [[1]])
        hung.gate.set()
        hung.threads[0].join(10)
        assert not hung.threads[0].is_alive()
        pool.put(hung, 2)
        wait_for(lambda: hung.batches == [[-1], [2]])  # what waited before was dropped


def test_a_thread_that_is_late_with_an_abandoned_stage_counts_for_nothing() -> None:
    pool, stage = WorkerPool("pool", 2), Log(workers=2)
    with serving(pool, stage):
        occupied(pool, stage)
        pool.abandon(stage)
        pool.serve(stage)
        stage.gate.set()
        stage.threads[0].join(10)
        assert (stage.running, pool._busy[False]) == (0, 0)


def test_what_follows_from_a_batch_is_done_by_its_thread() -> None:
    """Which is free by the time that it is told of, and wakes nobody for what it finds itself."""

    class Following(Log):
        def on_worked(self) -> None:
            if self.batches[-1][0] < 20:
                pool.put(self, self.batches[-1][0] + 1)

    pool, stage = WorkerPool("pool", 3), Following(workers=3)
    with serving(pool, stage):
        pool.put(stage, 0)
        wait_until(stage, 21, pool, sleeping=3)
    assert stage.batches == [[number] for number in range(21)]
    assert len(set(stage.threads)) == 1
