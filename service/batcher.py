"""Dynamic batching: while the device computes, items queue; when it is free, it takes what is there."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.crew import Crew
from service.jobs import Rank
from service.sparing import Sparing
from service.workers import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE_S = 0.05  # so long an item waits at most while threads of its crew decode others for its batch


class Batcher(Workers[Item, Result]):
    """Workers that compute batches; none waits for one to fill.

    `run` computes a batch and gives one result or one exception per item, in order (see `Sparing` for what
    happens when it fails). parallel: batches computed at once. limit_s: the age at which one counts as hung.
    name, crew, on_abandoned: as `Workers` has them.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result | Exception]],
        max_batch: int,
        *,
        parallel: int = 1,
        limit_s: float = math.inf,
        name: str = "engine",
        crew: Crew | None = None,
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self._spared = Sparing(run, max_batch)
        super().__init__(name, parallel, self._spared, crew=crew, limit_s=limit_s, on_abandoned=on_abandoned)

    def most(self) -> int:
        """The largest batch that fits into the device's memory."""
        return self._spared.limit

    def rank(self, waiting: int, oldest_s: float) -> Rank:
        """That of a full batch, also when one has waited long enough."""
        return Rank.FULL_BATCH if waiting >= self.most() or oldest_s >= PATIENCE_S else Rank.BATCH
