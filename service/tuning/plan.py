"""How a bundle is computed: the size of batches, how many at once, on how many threads; and a rule for it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.settings import MOST_PICTURES, MOST_THREADS

BATCH = 4  # on the CPU more at once gain less than 3 %, and keep others waiting
SLOW_S = 0.1  # of a thread for one picture; what a batch saves, some 4 ms a run, is then below 3 %
MOST_ALONE = (
    4  # threads for a picture that takes less: they wait for each other at each of its short operators
)
IN_TURN = 2  # runs at once where one would leave cores or a GPU idle during its serial parts


class Plan(BaseModel):
    """The largest useful batch, how many at once, on how many threads a batch that computes alone.

    threads_shared: of each of several at once, 0 where that is the same. alone_s: seconds of a single item.
    pace_s: seconds per item at work. batch_s: seconds of a full batch. All three are 0 until measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch: int = Field(ge=1, le=MOST_PICTURES)
    parallel: int = Field(ge=1, le=MOST_THREADS)
    threads: int = Field(default=1, ge=1, le=MOST_THREADS)
    threads_shared: int = Field(default=0, ge=0, le=MOST_THREADS)
    alone_s: float = Field(default=0, ge=0)
    pace_s: float = Field(default=0, ge=0)
    batch_s: float = Field(default=0, ge=0)
    source: Literal["stored", "rule", "reload"] = "rule"

    @property
    def threads_at_once(self) -> int:
        """Threads of each of several batches at once."""
        return self.threads_shared or self.threads

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Of the one or two engines that it needs, that of batches alone first."""
        return (self.threads, self.threads_shared) if self.threads_shared else (self.threads,)


def plan_for_gpu(max_batch: int, threads: int) -> Plan:
    """Batches as large as allowed, and a second one that is copied and launched while the first computes."""
    return Plan(batch=max_batch, parallel=IN_TURN, threads=threads)


def plan_for_cpu(item_s: float, cores: int, threads: int, max_batch: int) -> Plan:
    """One thread for each of as many batches at once as there are cores, several for one alone.

    Threads of one run wait for each other, so that a core's worth of work is done in less time without.
    item_s: processor time of one thread for an item. threads: 0, or the only number there may be.
    """
    is_slow = item_s > SLOW_S
    batch = 1 if is_slow else min(BATCH, max_batch)
    if threads or cores == 1:
        in_turn = 1 if is_slow or cores == 1 else IN_TURN
        threads = threads or 1
        return Plan(batch=batch, parallel=max(in_turn, cores // threads), threads=threads)
    alone = cores if is_slow else min(MOST_ALONE, cores)
    return Plan(batch=batch, parallel=cores, threads=alone, threads_shared=1)


def described(plan: Plan) -> dict[str, int | float | str]:
    """What the log and the API tell about a plan."""
    return {
        "source": plan.source,
        "batch": plan.batch,
        "parallel": plan.parallel,
        "threads": plan.threads,
        "threads_shared": plan.threads_at_once,
        "ms_alone": round(plan.alone_s * 1000, 3),
        "ms_per_picture": round(plan.pace_s * 1000, 3),
    }


GAIN = 0.95  # of what an item takes by the rule's plan: what is less than that may be noise
ALONE_GAIN = 0.9  # the same of one alone, by the clock, which other processes hold up
