"""Dynamic batching: while the device computes, pictures queue; when it is free, it takes what is there."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.sparing import Sparing
from service.workers import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Workers[Item, Result]):
    """Workers that compute batches, and never wait for one to fill.

    `run` computes a batch and gives one result or one exception per item, in order (see `Sparing` for what
    happens when it fails). parallel: batches computed at once. limit_s: the age at which one counts as hung.
    name: of its threads, as a stage.
    on_abandoned: called for each item that was dropped since its caller had gone.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result | Exception]],
        max_batch: int,
        *,
        parallel: int = 1,
        limit_s: float = math.inf,
        name: str = "engine",
        on_abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        spared = Sparing(run, max_batch)
        super().__init__(
            name, parallel, spared, most=lambda: spared.limit, limit_s=limit_s, on_abandoned=on_abandoned
        )
