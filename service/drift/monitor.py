"""The drift of all products in service: noted by picture, told to the metrics, kept in the state folder."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from export.contract.bundle import Bundle
from service.drift.product import ProductDrift
from service.drift.stored import StoredDrift
from service.errors import Kind, Problem, shown
from service.metrics import Metrics
from service.settings import Settings
from service.tuning.stored_plans import state_folder

SAVE_S = 60.0

Products = dict[str, ProductDrift]

log = structlog.stdlib.get_logger("anomoe.drift")


class DriftMonitor:
    """Looks for drift in the pictures of every product; an alarm lasts until `reset`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.limit = settings.drift_pictures / settings.drift_stride
        self._settings, self._metrics = settings, metrics
        self._bundles: dict[str, Bundle] = {}
        self._products: dict[str, Products] = {}  # by digest of the bundle
        self._changed: set[str] = set()
        self._saving = asyncio.Lock()

    async def serve(self, bundles: Sequence[Bundle]) -> None:
        """These bundles are in service: those that were keep their state, others get what is stored."""
        await self.save()
        self._bundles = {bundle.digest: bundle for bundle in bundles if bundle.categories}
        self._products = {
            digest: self._products.get(digest) or self._restored(bundle)
            for digest, bundle in self._bundles.items()
        }
        self._metrics.drift_statistic.clear()
        self._metrics.drift_alarm.clear()
        for name in {name for products in self._products.values() for name in products}:
            self._metrics.drift_statistic.labels(name).set_function(partial(self._statistic, name))
            self._metrics.drift_alarm.labels(name).set_function(partial(self._has_alarm, name))

    def note(self, digest: str, category: str, score: float, distance: float) -> None:
        """A picture was answered; one of a bundle that has left does not count."""
        if not (product := self._products.get(digest, {}).get(category)):
            return
        had_alarm = product.alarm is not None
        product.add(score, distance, self._settings.drift_stride)
        self._changed.add(digest)
        if product.alarm and not had_alarm:
            log.warning("drift", category=category, stream=product.alarm.stream, pictures=product.pictures)

    async def reset(self, category: str | None) -> None:
        """Begin anew with one product, or with all. Raises: Problem (404) when no product has that name."""
        named = [one for one in self.products() if category in (None, one[1])]
        if category is not None and not named:
            raise Problem(Kind.UNKNOWN_CATEGORY, f"category: {shown(category)} is no product")
        for digest, name, _ in named:
            self._products[digest][name] = self._new(self._bundles[digest], name)
            self._changed.add(digest)
        log.info("drift reset", categories=[name for _, name, _ in named])
        await self.save()

    def products(self) -> Iterator[tuple[str, str, ProductDrift]]:
        """Digest of the bundle, name and drift of each product."""
        for digest, products in self._products.items():
            yield from ((digest, name, product) for name, product in list(products.items()))

    def model_of(self, digest: str) -> str:
        """The name of a bundle in service."""
        return self._bundles[digest].manifest.name

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None, None]:
        """Save now and then while the context lasts, and at its end."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.save()

    async def save(self) -> None:
        """Store what has changed; where that cannot be done a line of the log says so."""
        async with self._saving:
            changed = self._changed & self._products.keys()
            self._changed = set()
            stored = {digest: StoredDrift.of(self._products[digest]) for digest in changed}
            for digest, one in stored.items():
                try:
                    await asyncio.to_thread(one.write, self._file(digest))
                except OSError as error:
                    log.warning("drift is not stored", bundle=digest, reason=str(error))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await self.save()

    def _statistic(self, name: str) -> float:
        """Of several bundles that know a product the one with more evidence counts."""
        ones = [products[name] for products in self._products.values() if name in products]
        return max([one.statistic for one in ones])

    def _has_alarm(self, name: str) -> bool:
        return any(name in products and products[name].alarm for products in self._products.values())

    def _new(self, bundle: Bundle, name: str) -> ProductDrift:
        return ProductDrift(bundle.categories[name].scores.tolist(), self.limit)

    def _restored(self, bundle: Bundle) -> Products:
        """What is stored of a bundle; new where nothing is or, with a line in the log, nothing of use."""
        products = {name: self._new(bundle, name) for name in bundle.categories}
        file = None
        try:
            file = self._file(bundle.digest)
            StoredDrift.model_validate_json(file.read_bytes()).restore(products)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("stored drift ignored", file=str(file), reason=str(error))
            products = {name: self._new(bundle, name) for name in bundle.categories}
        return products

    def _file(self, digest: str) -> Path:
        return state_folder(self._settings) / "drift" / f"{digest.removeprefix('sha256:')}.json"
