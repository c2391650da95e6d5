"""One engine or two, on as many threads as serve best, warm, with the plan of their batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Generic, Literal, Protocol, TypeVar

from service.backends.onnx import giving_back_memory
from service.process import usable_cores
from service.resting import Rest, no_rest
from service.settings import Settings
from service.tuning import AT_ONCE_PATIENCE, GAIN, Plan, Timer, Took, make_plan, rematch, time_batches

PARALLEL = 2  # one run's serial parts are then filled by another's; more only wait for the same cores

Search = Literal["none", "one", "pair"]
"""Whether other numbers of threads are tried, and whether the best of two numbers may be kept."""


class Tunable(Protocol):
    """An engine that can be tried; `samples` are what it is tried on."""

    @property
    def device(self) -> str: ...

    def run(self, pictures: Sequence[Any], /) -> Sequence[object]: ...

    def samples(self, count: int) -> Sequence[Any]: ...

    def warm_up(self, batch: int = 1) -> None: ...


AnyEngine = TypeVar("AnyEngine", bound=Tunable)


@dataclass(frozen=True)
class Tuned(Generic[AnyEngine]):
    """An engine for batches that compute alone, one for several at once if that gains, and the plan."""

    engine: AnyEngine
    plan: Plan
    shared: AnyEngine | None = None

    @property
    def engines(self) -> tuple[AnyEngine, ...]:
        """The one or both."""
        return (self.engine, self.shared) if self.shared else (self.engine,)


def tune(
    open_engine: Callable[[int], AnyEngine],
    settings: Settings,
    known: Plan | None,
    search: Search,
    rest: Rest = no_rest,
) -> Tuned[AnyEngine]:
    """Open an engine on as many threads as are set or there are cores, and measure it; then on half of them.

    Where batches at once are as fast then, both engines are kept, if `search` allows a pair: at work fewer
    threads wait less for each other and for those that decode. Else, or where a single picture is clearly
    faster, half as many are taken if they gain. Either way they are halved again; what is compared is timed
    in turn. Nothing is searched where a plan is known, a number is set, the settings leave no time, opening
    takes longer than they leave, or a GPU computes. rest: called where a plan is known, after each warm-up.
    """
    if known is not None:
        plan = known if search == "pair" else replace(known, threads_shared=0)
        shared = open_engine(plan.threads_shared) if plan.threads_shared else None
        return _checked(_warm(Tuned(open_engine(plan.threads), plan, shared), rest), rest)
    began = perf_counter()
    threads = settings.threads or usable_cores()
    engine = open_engine(threads)
    engine.warm_up()
    opening_s = perf_counter() - began
    timer = timer_of(engine, settings.max_batch)
    best = Tuned(engine, _plan(timer, threads, settings))
    stop = perf_counter() + settings.tune_s
    is_fixed = search == "none" or settings.threads or engine.device != "cpu"
    while not is_fixed and (threads := threads // 2) and perf_counter() + opening_s < stop:
        other = open_engine(threads)
        other.warm_up()
        other_timer = timer_of(other, settings.max_batch)
        rivals = (best.plan, timer), (_plan(other_timer, threads, settings), other_timer)
        present, plan = rematch(rivals, stop + settings.tune_s)
        if search == "pair" and plan.is_as_good_at_once(present) and not plan.gains_alone(present):
            best = Tuned(best.engine, present.shared_by(plan), other)
            timer = _of_pair(timer, other_timer)
        elif plan.is_better(present):
            best, timer = Tuned(other, plan), other_timer
        else:
            break
    was_measured = best.plan.alone_s < settings.tune_s
    if was_measured and best.engine.device == "cpu":
        with giving_back_memory():  # of the largest batches, which may not be those of the plan
            for one in best.engines:
                one.warm_up()
    return _warm(best) if was_measured or best.plan.batch > 1 else best


def _warm(tuned: Tuned[AnyEngine], rest: Rest = no_rest) -> Tuned[AnyEngine]:
    """Warm for every size of a batch: a GPU is slow the first time that it meets one."""
    most = tuned.plan.batch
    for engine in tuned.engines:
        for size in [most] if engine.device == "cpu" else range(1, most + 1):
            engine.warm_up(size)
            rest()
    return tuned


def _checked(tuned: Tuned[AnyEngine], rest: Rest) -> Tuned[AnyEngine]:
    """With the curve of a plan that is taken over no lower than a batch is seen to take now.

    Raises: what computing a batch of samples raises, as where it is measured.
    """
    plan = tuned.plan
    took = timer_of(tuned.engine, plan.batch)(plan.batch, 1)
    rest()
    if took.clock_s <= plan.batch_s:
        return tuned
    return replace(tuned, plan=replace(plan, curve=plan.curve.times(took.clock_s / plan.batch_s)))


def timer_of(engine: Tunable, most: int) -> Timer:
    """What times batches of up to so many samples on an engine; raises what computing one of them raises."""
    samples = engine.samples(most)

    def run(size: int) -> None:
        for result in engine.run(samples[:size]):
            if isinstance(result, Exception):
                raise result

    def timer(size: int, parallel: int) -> Took:
        if engine.device != "cpu":
            run(size)  # what the first run of a size takes there says nothing
            return time_batches(run, size, parallel)
        took = time_batches(run, size, parallel)
        # Several at once keep the cores busy: what the clock shows beyond that is other processes' doing.
        return took if parallel == 1 else took._replace(clock_s=took.cores_s)

    return timer


def _of_pair(alone: Timer, shared: Timer) -> Timer:
    return lambda size, parallel: (alone if parallel == 1 else shared)(size, parallel)


def _plan(timer: Timer, threads: int, settings: Settings) -> Plan:
    """Measure batches; without time for it, one picture, and batch as is set."""
    if settings.tune_s:
        parallel = max(PARALLEL, usable_cores() // threads)
        gain = AT_ONCE_PATIENCE if threads < usable_cores() else GAIN  # one alone would leave cores idle
        plan = make_plan(timer, settings.max_batch, parallel, settings.tune_s, gain)
        return replace(plan, threads=threads)
    return replace(make_plan(timer, 1, 1, 0), batch=settings.max_batch, threads=threads)
