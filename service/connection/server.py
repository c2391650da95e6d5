"""The HTTP server: a signal lets what was accepted be finished, then the process ends with code 0."""

import asyncio
import errno
import math
import signal
import socket
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from time import perf_counter
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from service.connection.protocol import protocol_class
from service.errors import Problem
from service.models.runtime import Runtime

TELL_S = 0.5
ONE_SIGNAL_S = 1.0  # `timeout` and shells send one twice: to the process and to its group

# A connection that is closed just when a camera asks again is a lost request to it; uvicorn's 5 s are what a
# camera may well wait between two pictures.
KEEP_ALIVE_S = 75

log = structlog.stdlib.get_logger("anomoe.server")


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, then finishes what was accepted; a second signal ends at once.

    SIGHUP reloads the bundles. `exit_code` is 1 when an accepted request was dropped or a stage was lost.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        protocol = protocol_class(runtime.settings.header_timeout_s, runtime.metrics)
        patience_s = math.ceil(runtime.settings.drain_s)
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            access_log=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=patience_s,
        )
        super().__init__(config)
        self.exit_code = 0
        self._runtime = runtime
        self._tasks: set[asyncio.Task[None]] = set()
        self._left_at: float | None = None
        self._told_at = -math.inf
        runtime.health.on_give_up = self.abandon

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal."""
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().serve(sockets)
        if self.server_state.connections and not self.force_exit:
            log.error("answers not taken in time", connections=len(self.server_state.connections))
            self.exit_code = 1

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while the context lasts; unlike uvicorn's, it does not raise them afterwards."""
        loop = asyncio.get_running_loop()

        def handle(number: int, _: FrameType | None) -> None:
            # Not in the context of the request that is being worked on, whose id the log would tell.
            loop.call_soon_threadsafe(self._on_signal, number, context=Context())

        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        earlier = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def abandon(self) -> None:
        """End at once with exit code 1, whatever is under way."""
        self.exit_code = 1
        self.config.timeout_graceful_shutdown = 0
        self.should_exit = self.force_exit = True

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log; once a second that no connection can be accepted, of which asyncio tells 2048 times."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif perf_counter() - self._told_at > TELL_S:
            self._told_at = perf_counter()
            log.error("connections have to wait", reason=str(error))

    def _on_signal(self, number: int) -> None:
        log.info("signal", name=signal.Signals(number).name)
        if number == getattr(signal, "SIGHUP", None):
            self._begin(self._reload())
        elif self._left_at is None:
            self._left_at = perf_counter()
            self._runtime.health.enter("stopping")
            self._runtime.leave()
            self._begin(self._leave())
        elif perf_counter() - self._left_at < ONE_SIGNAL_S:
            return
        elif self._runtime.permits.taken or self._is_sending():
            self.abandon()
        else:
            self.should_exit = self.force_exit = True

    def _is_sending(self) -> bool:
        """Whether a client has still to take some of an answer."""
        return any(one.transport.get_write_buffer_size() for one in self.server_state.connections)

    async def _leave(self) -> None:
        permits = self._runtime.permits
        try:
            await asyncio.wait_for(permits.all_returned(), self._runtime.settings.drain_s)
        except asyncio.TimeoutError:
            if permits.taken:  # no time at all is over before a look at them
                log.error("not drained in time", dropped=permits.taken)
                self.abandon()
        self.should_exit = True

    async def _reload(self) -> None:
        with suppress(Problem):  # logged where it was found
            await self._runtime.reload()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
