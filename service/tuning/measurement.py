"""What `anomoe tune` measures: other batches and numbers of threads, in turn with the rule's plan."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter, process_time

import structlog

from service.process import usable_cores
from service.settings import Settings
from service.tuning.plan import ALONE_GAIN, GAIN, IN_TURN, Plan
from service.tuning.search import AnyEngine, Opener, Tunable, open_tuned, run_all
from service.tuning.timing import COLD_S, LONG_ENOUGH_S, Case

ROUNDS = 3  # at least, whatever they take

log = structlog.stdlib.get_logger("anomoe.tuning")


def measure(open_engine: Opener[AnyEngine], settings: Settings, *, is_single: bool = False) -> Plan:
    """Find the best plan in about `tune_s` seconds; the rule's, where no other gains clearly.

    is_single: as in `open_tuned`. Raises: what computing an item raises.
    """
    by_rule, cores = open_tuned(open_engine, settings, is_single=is_single), usable_cores()
    rule, is_cpu = by_rule.plan, by_rule.engine.device == "cpu"
    counts = {*rule.thread_counts}
    if rule.threads_shared:
        counts |= {cores >> halvings for halvings in range(cores.bit_length())}
    engines = {threads: open_engine(threads) for threads in sorted(counts)}
    parallel = {threads: max(IN_TURN, cores // threads) for threads in engines}
    parallel[rule.threads_at_once] = rule.parallel
    sizes = [2**power for power in range(12) if 2**power <= min(2 * rule.batch, settings.max_batch)]

    def alone_s(case: Case) -> float:
        return item_s(engines[case.threads], case, by_clock=True)

    def at_work_s(case: Case) -> float:
        # The cores are kept busy: what another process takes of them should not count.
        return item_s(engines[case.threads], case, by_clock=not is_cpu)

    cases = [Case(threads, 1, 1) for threads in engines]
    alone = best(Case(rule.threads, 1, 1), cases, alone_s, ALONE_GAIN, settings.tune_s / 4)
    cases = [Case(threads, size, parallel[threads]) for threads in engines for size in sizes]
    usual = Case(rule.threads_at_once, rule.batch, rule.parallel)
    at_work = best(usual, cases, at_work_s, GAIN, settings.tune_s * 3 / 4)
    shared = at_work.threads if at_work.threads != alone.threads else 0
    plan = Plan(
        batch=at_work.batch,
        parallel=at_work.parallel,
        threads=alone.threads,
        threads_shared=shared,
        source="stored",
    )
    return open_tuned(open_engine, settings, plan, is_single=is_single).plan


def best(
    usual: Case, others: Iterable[Case], seconds: Callable[[Case], float], gain: float, budget_s: float
) -> Case:
    """The case that takes least; the usual one, unless less than `gain` of its time is reached twice.

    The least of many is the one that noise favoured most: it is therefore timed again, without the others.
    """
    found = shares(usual, others, seconds, budget_s / 2)
    case = min(found, key=lambda one: found[one])
    if found[case] < gain:
        share = shares(usual, [case], seconds, budget_s / 2).get(case, 1.0)
        log.info("compared with the rule", **case._asdict(), share=round(share, 3))
        return case if share < gain else usual
    return usual


def shares(
    usual: Case, others: Iterable[Case], seconds: Callable[[Case], float], budget_s: float
) -> dict[Case, float]:
    """What each case takes as a share of the usual one, without those that cannot be computed.

    All are timed in turn, so that what else the machine does meets all; the median over the rounds counts.
    """
    laps: dict[Case, list[float]] = {case: [] for case in (usual, *others)}
    stop = perf_counter() + budget_s
    while len(laps[usual]) < ROUNDS or perf_counter() < stop:
        for case in list(laps):
            try:
                laps[case].append(seconds(case))
            except Exception as error:  # whatever the runtime raises, as for want of memory
                if case == usual:
                    raise
                log.warning("cannot be computed", **case._asdict(), reason=str(error))
                del laps[case]
    return {
        case: median(one / other for one, other in zip(laps[case], laps[usual], strict=True)) for case in laps
    }


def item_s(engine: Tunable, case: Case, *, by_clock: bool) -> float:
    """Seconds for an item where batches follow each other: by the clock, or processor time.

    Raises: what computing an item raises.
    """
    samples = engine.samples(case.batch)
    began_s, began_cpu_s = perf_counter(), process_time()

    def work(_: int) -> int:
        runs = 0
        while not runs or perf_counter() < began_s + LONG_ENOUGH_S:
            run_all(engine, samples)
            runs += 1
        return runs

    with ThreadPoolExecutor(case.parallel) as pool:
        runs = sum(pool.map(work, range(case.parallel)))
    clock_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
    return (clock_s if by_clock else cpu_s + COLD_S * runs) / (runs * case.batch)
