"""One engine or two, opened and warm, with the plan of their batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter, thread_time
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import structlog

from service.process import usable_cores
from service.settings import Settings
from service.throttle import Pause, no_pause
from service.tuning.plan import Plan, plan_for_cpu, plan_for_gpu

ENOUGH_S = 0.03  # of runs of the same samples, of which the shortest counts

log = structlog.stdlib.get_logger("anomoe.tuned")


class Tunable(Protocol):
    """An engine that can be tried; `samples` are what it is tried on."""

    @property
    def device(self) -> str: ...

    def run(self, pictures: Sequence[Any], /) -> Sequence[object]: ...

    def samples(self, count: int) -> Sequence[Any]: ...

    def warm_up(self, batch: int = 1) -> None: ...


AnyEngine = TypeVar("AnyEngine", bound=Tunable)
Opener = Callable[[int], AnyEngine]
"""Opens an engine that computes on so many threads."""


@dataclass(frozen=True)
class TunedEngine(Generic[AnyEngine]):
    """An engine for batches that compute alone, one for several at once if the plan has it, and the plan."""

    engine: AnyEngine
    plan: Plan
    shared: AnyEngine | None = None


class Timing(NamedTuple):
    """Seconds by the clock, and of the calling thread alone."""

    clock_s: float
    thread_s: float


def open_tuned(
    open_engine: Opener[AnyEngine],
    settings: Settings,
    known: Plan | None = None,
    *,
    is_single: bool = False,
    rest: Pause = no_pause,
) -> TunedEngine[AnyEngine]:
    """Open the engines of a known plan, or else of the rule's, warm them and see how long they take.

    A plan that has times keeps them, as a busy device cannot be measured: only a batch is. is_single: whether
    all batches are to share one engine. rest: called after each warm-up.
    Raises: what computing an item raises.
    """

    @cache
    def engine(threads: int) -> AnyEngine:
        opened = open_engine(threads)
        opened.warm_up()
        rest()
        return opened

    @cache
    def took(threads: int, count: int) -> Timing:
        return shortest(engine(threads), count, rest)

    plan = known or _by_rule(engine, took, settings, is_single)
    batch = min(plan.batch, settings.max_batch)
    counts = plan.thread_counts[: 1 if is_single else 2]
    try:
        batch_s = max(took(threads, batch).clock_s for threads in counts)
    except Exception as error:  # whatever the runtime raises, as for want of memory; at work it is halved
        log.warning("a batch cannot be computed", batch=batch, reason=str(error))
        batch_s = batch * max(took(threads, 1).clock_s for threads in counts)
    runs = max(1, min(plan.parallel, usable_cores() // counts[-1]))
    plan = Plan(
        batch=batch,
        parallel=plan.parallel,
        threads=counts[0],
        threads_shared=counts[1] if counts[1:] else 0,
        alone_s=plan.alone_s or took(counts[0], 1).clock_s,
        pace_s=plan.pace_s or batch_s / (batch * runs),
        batch_s=max(batch_s, plan.batch_s),
        source=plan.source,
    )
    return TunedEngine(engine(counts[0]), plan, engine(counts[1]) if counts[1:] else None)


def _by_rule(
    engine: Opener[AnyEngine], took: Callable[[int, int], Timing], settings: Settings, is_single: bool
) -> Plan:
    """The rule's plan for an engine, which is first opened on the threads of one batch among several."""
    cores = usable_cores()
    threads = settings.threads or (cores if is_single else 0)
    if engine(threads or 1).device != "cpu":
        return plan_for_gpu(settings.max_batch, threads or 1)
    return plan_for_cpu(took(threads or 1, 1).thread_s, cores, threads, settings.max_batch)


def shortest(engine: Tunable, count: int, rest: Pause) -> Timing:
    """The shortest run of so many samples within ENOUGH_S, by an engine that is warm for one.

    Raises: what computing one of them raises.
    """
    for size in range(2, count + 1) if engine.device != "cpu" else ():
        engine.warm_up(size)  # a GPU is slow the first time that it meets one
        rest()
    samples = engine.samples(count)
    stop = perf_counter() + ENOUGH_S
    least = _timed(engine, samples)
    while perf_counter() < stop:
        least = min(least, _timed(engine, samples))
    rest()
    return least


def _timed(engine: Tunable, samples: Sequence[Any]) -> Timing:
    began_s, began_thread_s = perf_counter(), thread_time()
    run_all(engine, samples)
    return Timing(perf_counter() - began_s, thread_time() - began_thread_s)


def run_all(engine: Tunable, samples: Sequence[Any]) -> None:
    """Compute a batch of samples. Raises: what computing one of them raises."""
    for result in engine.run(samples):
        if isinstance(result, Exception):
            raise result
