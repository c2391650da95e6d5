"""The models at work: started, reloaded and stopped, with their health and the permits of requests."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from threading import Event

import structlog

from export.contract.bundle import BundleError
from service.drift.monitor import DriftMonitor
from service.errors import Kind, Problem
from service.inference.backends.base import GraphError
from service.metrics import Metrics
from service.models.health import Health
from service.models.loading import load_models
from service.models.model import AnyModel
from service.models.registry import ModelRegistry
from service.process import release_memory
from service.scheduling.permits import Permits
from service.settings import Settings
from service.throttle import StoppedError, Throttle

log = structlog.stdlib.get_logger("anomoe.runtime")


class Runtime:
    """The models in service, their health, and the permits of requests that are worked on."""

    def __init__(self, settings: Settings, models: ModelRegistry, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.health = Health(metrics)
        self.drift = DriftMonitor(settings, metrics)
        self.permits = Permits(settings.queue_size, settings.max_in_flight_bytes)
        self._reloading = asyncio.Lock()
        self._leaving = Event()
        metrics.queue_depth.set_function(models.queue_depth)
        metrics.queue_capacity.set(settings.queue_size)
        metrics.admitted.set_function(lambda: self.permits.taken)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Compute while the context lasts; at its end, unless it is cut off, finish what was admitted."""
        self._begin(self.models.all)
        await self._publish()
        self.metrics.last_reload.labels("done").set_to_current_time()
        self.health.enter(None)
        async with self.drift.kept():
            yield
            self.health.enter("stopping")
            await self._end(self.models.all)

    async def reload(self) -> None:
        """Load the bundles anew, and once they are warm let them answer instead of the present ones.

        Pictures that the present models have begun are finished by them.
        Raises: Problem (422) when a bundle is bad, (503) after `leave`; then nothing changes.
        """
        async with self._reloading:
            try:
                rest = Throttle(self._leaving)
                fresh = await asyncio.to_thread(
                    load_models, self.settings, self.metrics, self.models.all, rest
                )
            except StoppedError as error:
                raise Problem(Kind.UNAVAILABLE, f"nothing was changed: {error}") from error
            except (BundleError, GraphError, OSError) as error:
                self.metrics.count_reload("refused")
                log.error("reload refused", reason=str(error))
                raise Problem(Kind.BAD_BUNDLE, f"nothing was changed: {error}") from error
            new, left = self.models.swap(fresh)
            self._begin(new)
            await self._publish()
            self.metrics.count_reload("done")
            log.info("reloaded", new=_names(new), left=_names(left))
            await self._end(left)
            left.clear()
            await asyncio.to_thread(release_memory)

    def leave(self) -> None:
        """Give up what is being loaded, since the service is stopping."""
        self._leaving.set()

    async def _publish(self) -> None:
        self.models.publish(self.metrics, self.settings.device)
        await self.drift.serve([model.bundle for model in self.models.all])

    def _begin(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            for stage in model.stages:
                stage.start()
                self.health.watch(stage)

    async def _end(self, models: Sequence[AnyModel]) -> None:
        for model in models:
            await model.retire()
            for stage in model.stages:
                self.health.forget(stage)


def _names(models: Sequence[AnyModel]) -> list[str]:
    return [model.bundle.manifest.name for model in models]
