"""How long batches take, by the clock and by the cores."""

from typing import NamedTuple

COLD_S = 0.004  # that a batch takes longer at work, where its thread has done other things before
LONG_ENOUGH_S = 0.2


class Case(NamedTuple):
    """Batches of one size, so many at once, each on so many threads."""

    threads: int
    batch: int
    parallel: int
