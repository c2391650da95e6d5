"""Whether pictures can be answered; a stage that died or hangs is made anew once, or the service gives up."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from service.errors import Kind, Problem
from service.metrics import Metrics
from service.scheduling.batcher import CallStage
from service.scheduling.stage import Stage

AnyStage = Stage[Any, Any]

MOST_RECOVERIES = 3  # each leaves a hung thread behind

log = structlog.stdlib.get_logger("anomoe.health")


class Health:
    """Ready, or not for a reason.

    `on_give_up` is called when a failed stage could not be made anew: the process should end, so that its
    supervisor starts another.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.on_give_up: Callable[[], None] = lambda: None
        self._phase: str | None = "starting"
        self._failed: dict[AnyStage, str] = {}
        self._recoveries = 0
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.ready.set(False)

    @property
    def reason(self) -> str | None:
        """Why no picture can be answered; None when one can."""
        return next(iter(self._failed.values()), None) or self._phase

    @property
    def is_ready(self) -> bool:
        """Whether pictures can be answered."""
        return self.reason is None

    def enter(self, phase: str | None) -> None:
        """Begin a phase without service, like "stopping", or with None the one with it."""
        self._phase = phase
        self.metrics.ready.set(self.is_ready)

    def check(self) -> None:
        """Raises: Problem (503) when no picture can be answered."""
        if self.reason is not None:
            headers = {"Retry-After": "1", "Connection": "close"}  # another one may be ready
            raise Problem(Kind.UNAVAILABLE, f"the service is not ready: {self.reason}", headers)

    def watch(self, stage: AnyStage) -> None:
        """Learn of a stage's failure; threads made anew must get through their probe."""
        self.metrics.stage_failures.labels(stage.name)  # there before the first failure
        stage.on_failure = partial(self._on_failure, stage)

    def forget(self, stage: AnyStage) -> None:
        """A stage is out of service; what becomes of it does not matter any more."""
        stage.on_failure = lambda _: None
        self._failed.pop(stage, None)
        self.metrics.ready.set(self.is_ready)

    def _on_failure(self, stage: AnyStage, reason: str) -> None:
        is_again = stage in self._failed
        self._failed[stage] = reason
        self.metrics.ready.set(False)
        self.metrics.stage_failures.labels(stage.name).inc()
        log.error("stage failed", stage=stage.name, reason=reason)
        self._recoveries += 1
        if is_again or self._recoveries > MOST_RECOVERIES:
            log.critical("giving up", reason=reason)
            self.on_give_up()
            return
        task = asyncio.create_task(self._recover(stage))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recover(self, stage: AnyStage) -> None:
        stage.start()
        prober = CallStage(f"{stage.name} probe", 1, limit_s=stage.limit_s)
        prober.start()
        try:
            await prober.run(stage.probe)
        except Exception as error:  # whatever the probe raises, the stage does not work
            stage.fail(str(error))  # unless it has failed again already
            return
        finally:
            await prober.stop()
        self._failed.pop(stage, None)
        self.metrics.ready.set(self.is_ready)
        log.info("stage recovered", stage=stage.name)
