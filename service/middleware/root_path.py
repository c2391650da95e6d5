"""The prefix under which a proxy shows the service."""

from collections.abc import Container

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Takes the prefix off the path of a request; proxies take it off themselves or leave it there.

    What is inside, of which one asks paths for keys, knows paths without it only. `paths` are those of the
    application: one that begins like the prefix stays as it is.
    """

    def __init__(self, app: ASGIApp, prefix: str, paths: Container[str]) -> None:
        self.app = app
        self._prefix = prefix
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        path = scope.get("path", "")
        if f"{path}/".startswith(f"{self._prefix}/") and path not in self._paths:
            scope = {**scope, "path": path.removeprefix(self._prefix) or "/"}
        await self.app(scope, receive, send)
