"""One picture's request: who asks, since when, what each stage took; what a failed model means to it."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import structlog

from service.errors import Kind, Problem
from service.inference.backends.base import GraphError
from service.scheduling.caller import ANYONE, Caller
from service.scheduling.stage import StageError, StageResult


@dataclass(frozen=True)
class Trace:
    """Which request a picture belongs to, when it began (seconds, `perf_counter`) and who asks."""

    request_id: str
    started: float
    caller: Caller = ANYONE


def timings(
    decoded: StageResult[Any],
    encoded: StageResult[Any],
    computed_ms: Mapping[str, float],
    started: float,
) -> dict[str, float]:
    """Milliseconds of each stage, of the request so far, and of what is no stage: `queue`.

    That is the wait for the body, for turns, threads and the interpreter. computed_ms: by part of the model.
    """
    stages = {"decode": decoded.took_s * 1000, **computed_ms, "encode": encoded.took_s * 1000}
    total = (perf_counter() - started) * 1000
    whole = {**stages, "queue": max(0.0, total - sum(stages.values())), "total": total}
    return {name: round(ms, 3) for name, ms in whole.items()}


log = structlog.stdlib.get_logger("anomoe.detection")


@contextmanager
def model_problems() -> Generator[None, None, None]:
    """Tell the caller of a model or a stage that fails.

    Raises: Problem (500, 503).
    """
    try:
        yield
    except GraphError as error:
        log.exception("model failed")
        raise Problem(Kind.INTERNAL, "the model failed on this picture, the log has more") from error
    except StageError as error:
        raise Problem(Kind.UNAVAILABLE, str(error), {"Retry-After": "1"}) from error
