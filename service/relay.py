"""Several stages in a row, whose threads hand an item on: the event loop has no part in between."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from service.caller import ANYONE, Caller
from service.workers import Batched, Workers


class Step(NamedTuple):
    """A stage, and what makes its item of the results of the stages before it.

    caller: whose deadline counts for this stage.
    """

    workers: Workers[Any, Any]
    item_of: Callable[..., Any]
    caller: Caller = ANYONE


def calling(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """For a stage that makes calls: its item is one of `function`, with the results before it."""
    return partial(partial, function)


async def relay(*steps: Step) -> Sequence[Batched[Any]]:
    """What each of the stages gives; one whose caller is cancelled costs the later ones nothing.

    Raises: as `Workers.submit` of each stage, and whatever `item_of` raises.
    """
    answer: asyncio.Future[Sequence[Batched[Any]]] = asyncio.get_running_loop().create_future()
    try:
        _go_on(steps, answer)
        return await answer
    except asyncio.CancelledError:
        for step in steps:
            step.workers.forget(answer)
        raise
    finally:
        del answer  # an error's traceback holds this frame: without it, nobody the error


def _go_on(
    steps: Sequence[Step], answer: "asyncio.Future[Any]", *given: Batched[Any]
) -> Sequence[Batched[Any]] | None:
    """Leave an item for the first of the steps; with no more of them, all that was given."""
    try:
        if not steps:
            return given
        workers, item_of, caller = steps[0]
        item = item_of(*(one.result for one in given))
        workers.put(item, caller, answer, partial(_go_on, steps[1:], answer, *given))
        return None
    finally:
        del answer, given  # as above
