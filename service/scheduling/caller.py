"""Who asks and until when: what fairness and deadlines go by."""

import math
from dataclasses import dataclass
from time import perf_counter

from service.errors import Kind, Problem


@dataclass(frozen=True)
class Caller:
    """The client that shares are counted by, and its deadline (seconds, `perf_counter`)."""

    client: str = ""
    deadline: float = math.inf

    @property
    def remaining_s(self) -> float:
        """Seconds to the deadline, below 0 when it has passed."""
        return self.deadline - perf_counter()

    def check(self, step: str, stage: str) -> None:
        """Raises: Problem (504) when the deadline has passed before `step`."""
        if self.remaining_s <= 0:
            raise deadline_problem(step, stage)


ANYONE = Caller()


def deadline_problem(step: str, stage: str) -> Problem:
    """The answer to a caller whose deadline passed before `step`, which is counted by `stage`."""
    return Problem(Kind.DEADLINE, f"the deadline passed before {step}", stage=stage)
