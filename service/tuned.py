"""An engine on as many threads as serve it best, warm, with the plan of its batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

from service.backends.onnx import usable_cores
from service.settings import Settings
from service.tuning import PATIENCE, Plan, Timer, make_plan, shortest_alone, time_batches

PARALLEL = 2  # one run's serial parts are then filled by another's; more only wait for the same cores


class Tunable(Protocol):
    """An engine that can be tried; `samples` are what it is tried on."""

    @property
    def device(self) -> str: ...

    def run(self, pictures: Sequence[Any], /) -> Sequence[object]: ...

    def samples(self, count: int) -> Sequence[Any]: ...

    def warm_up(self, batch: int = 1) -> None: ...


AnyEngine = TypeVar("AnyEngine", bound=Tunable)


def tune(
    open_engine: Callable[[int], AnyEngine], counts: Sequence[int], settings: Settings, known: Plan | None
) -> tuple[AnyEngine, Plan]:
    """Open an engine with each number of threads, most first, as long as fewer are no slower; keep the best.

    A single picture goes before throughput: see `Plan.is_better`. Nothing is searched where a plan is known,
    the settings leave no time, opening one more engine takes longer than they leave, or a GPU computes.
    """
    if known is not None:
        engine = open_engine(known.threads)
        engine.warm_up(known.batch)
        return engine, known
    began = perf_counter()
    engine = open_engine(counts[0])
    engine.warm_up(1 if settings.tune_s else settings.max_batch)
    opened = perf_counter()
    plan = _plan(engine, counts[0], settings)
    stop = perf_counter() + settings.tune_s
    for threads in counts[1:]:
        if engine.device != "cpu" or perf_counter() + (opened - began) > stop:
            break
        other = open_engine(threads)
        other.warm_up()
        if shortest_alone(timer_of(other, 1)) > PATIENCE * plan.alone_s:
            break
        other_plan = _plan(other, threads, settings)
        if other_plan.is_better(plan):
            engine, plan = other, other_plan
    if settings.tune_s and plan.batch > 1:
        engine.warm_up(plan.batch)
    return engine, plan


def thread_counts(threads: int) -> list[int]:
    """The number as it is set; for 0, all usable cores, half of them, and so on down to 1."""
    cores = usable_cores()
    return [threads] if threads else [cores >> power for power in range(cores.bit_length())]


def timer_of(engine: Tunable, most: int) -> Timer:
    """What times batches of up to so many samples on an engine; raises what computing one of them raises."""
    samples = engine.samples(most)

    def run(size: int) -> None:
        for result in engine.run(samples[:size]):
            if isinstance(result, Exception):
                raise result

    return partial(time_batches, run)


def _plan(engine: Tunable, threads: int, settings: Settings) -> Plan:
    """Measure batches; without time for it, one picture, and batch as is set."""
    timer = timer_of(engine, settings.max_batch)
    if settings.tune_s:
        parallel = max(PARALLEL, usable_cores() // (threads or 1))
        return replace(make_plan(timer, settings.max_batch, parallel, settings.tune_s), threads=threads)
    return replace(make_plan(timer, 1, 1, 0), batch=settings.max_batch, threads=threads)
