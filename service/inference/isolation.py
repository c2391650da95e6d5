"""Batches of which no item fails for another's sake: what fails together is computed again in halves."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from service.inference.backends.base import GraphError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How runtimes word that a batch did not fit: ONNX Runtime's arena, CUDA, cuBLAS, PyTorch.
OUT_OF_MEMORY = ("out of memory", "failed to allocate", "alloc_failed", "out_of_memory", "bad_alloc")

log = structlog.stdlib.get_logger("anomoe.isolation")


class IsolatedBatches(Generic[Item, Result]):
    """Runs batches with `run`, which gives one result or one exception per item or fails as a whole.

    Items that the runtime failed on are run again in halves, down to single ones: a bad item is then alone
    with its error, and a batch too large for the device's memory gets smaller. `limit` is the largest batch
    that should be tried, halved whenever memory ran out.
    """

    def __init__(self, run: Callable[[list[Item]], Sequence[Result | Exception]], limit: int) -> None:
        self._run = run
        self.limit = limit

    def __call__(self, items: list[Item]) -> list[Result | Exception]:
        """One result or one exception per item, in order."""
        results = self._attempt(items)
        for result in results:
            if isinstance(result, Exception):
                _forget_frames(result)
        failed = [place for place, result in enumerate(results) if isinstance(result, GraphError)]
        if len(items) == 1 or not failed:
            return results
        middle = (len(failed) + 1) // 2
        for part in filter(None, (failed[:middle], failed[middle:])):
            again = self([items[place] for place in part])
            for place, result in zip(part, again, strict=True):
                results[place] = result
        return results

    def _attempt(self, items: list[Item]) -> list[Result | Exception]:
        results: list[Result | Exception]
        try:
            results = list(self._run(items))
            if len(results) != len(items):
                raise GraphError(f"the engine gave {len(results)} results for {len(items)} items")
        except Exception as error:  # whatever fails a batch must not fail each of its items yet
            if len(items) == 1 and not isinstance(error, GraphError):  # which tells enough
                log.exception("engine failed")
            results = [_as_graph_error(error) for _ in items]
        errors = [result for result in results if isinstance(result, Exception)]
        if len(items) > 1 and any(map(is_out_of_memory, errors)):
            self.limit = max(1, min(self.limit, len(items) // 2))
            log.warning("out of memory, smaller batches from now on", limit=self.limit, error=str(errors[0]))
        return results


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a batch failed because it did not fit into memory."""
    text = str(error).lower()
    has_failed = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
    return has_failed or any(words in text for words in OUT_OF_MEMORY)


def _forget_frames(error: BaseException | None) -> None:
    """Drop the frames of an error, which hold pictures, memory of the device and, by callers, the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__


def _as_graph_error(error: Exception) -> GraphError:
    if isinstance(error, GraphError):
        return error
    wrapped = GraphError(f"engine: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
