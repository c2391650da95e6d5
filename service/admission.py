"""Before the body of a request for work is read: is the service ready, and is there room?"""

from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.body import announced_bytes, check_announced
from service.bunching import Bunching
from service.caller import caller_of
from service.detect import Detector
from service.errors import Kind, Problem
from service.work import is_work


class Admission:
    """Lets requests for work, at `paths`, in with a permit, and refuses the others without reading them.

    The state of the request gets `caller`. Refusals are Problems, which `RequestContext` answers.
    """

    def __init__(self, app: ASGIApp, detector: Detector, paths: Container[str]) -> None:
        self.app = app
        self.detector = detector
        self.settings = detector.settings
        self._paths = paths
        self._bunching = Bunching()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Raises: Problem (413 announced too large, 422 wrong deadline, 429, 503).
        """
        if not is_work(scope, self._paths):
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        caller = caller_of(scope, state.get("key_name"), state["started"], self.settings.deadline_ms)
        state["caller"] = caller
        self.detector.health.check()
        try:
            with self.detector.permits.hold(caller, self._size(scope)) as permit:

                async def noted(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        permit.is_answered = message["status"] == 200
                    await send(message)

                await self.app(scope, receive, noted)
        except Problem as problem:
            if problem.kind is Kind.BUSY:
                self._bunching.note()
            raise

    def _size(self, scope: Scope) -> int:
        """Bytes that the body may take: as announced, else as many as are allowed."""
        announced, limit = announced_bytes(scope), self.settings.max_body_bytes
        check_announced(announced, limit)
        return limit if announced is None else int(announced)
