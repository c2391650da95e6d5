"""Load shedding: refusals of a service that is full, before the framework looks for a route."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from export.contract.manifest import ModelKind
from service.middleware.admission import admission_of
from service.models.runtime import Runtime


class LoadShedding:
    """Refuses what `WorkRoute` would refuse for want of a permit: refusals are many, and find cold caches.

    kinds: by method and path; whatever else is asked for goes on, and all that goes on is looked at again.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, kinds: Mapping[tuple[str, str], ModelKind]) -> None:
        self.app = app
        self._runtime = runtime
        self._permits = runtime.permits.requests
        self._kinds = kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection. Raises: Problem as `WorkRoute`."""
        if scope["type"] == "http" and self._permits.is_scarce:
            kind = self._kinds.get((scope["method"], scope["path"]))
            if kind is not None:
                asked = admission_of(scope, self._runtime, kind)
                self._permits.check(asked.caller.client, 1, asked.wait_s)
        await self.app(scope, receive, send)
