"""One process of the service: load, listen, answer what was accepted, leave."""

import gc
import os
import signal
import sys
from types import FrameType

import structlog

from service.api_keys import open_keys
from service.app import create_app
from service.connection.listener import listen
from service.connection.server import Server
from service.logging import configure_logging
from service.metrics import Metrics
from service.models.loading import load_models
from service.process import allow_many_connections, give_back_large_blocks
from service.settings import Settings, ineffective_settings
from service.tracing import tracing

log = structlog.stdlib.get_logger("anomoe.run")

# How long a thread may keep the interpreter from others. Python's own 5 ms are longer than most of what any
# does there; one that only wants to start a graph leaves a core idle while it waits.
SWITCH_INTERVAL_S = 0.0001

GARBAGE_OBJECTS = 10_000  # new ones are looked through for cycles, of which requests leave few, at so many


def run(settings: Settings) -> int:
    """Load the models, then listen until a signal stops the process; gives the exit code.

    What was accepted is answered first. Raises: BundleError or GraphError for a bad bundle, KeyFileError for
    a bad file of keys, OSError for a missing bundle, a taken port, or the missing extra `otel`.
    """
    configure_logging(settings.log_level)
    for reason in ineffective_settings():
        log.warning(reason)
    if open_keys(settings.api_keys_file, required=settings.require_keys) is None:
        log.warning("no API keys: whoever reaches this address may ask", setting="ANOMOE_API_KEYS_FILE")
    if settings.otel:
        tracing.start()
    gc.freeze()  # what was imported stays: looking through it now and then would stop every thread for 20 ms
    gc.set_threshold(GARBAGE_OBJECTS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    give_back_large_blocks()
    allow_many_connections()
    signal.signal(signal.SIGTERM, _leave)
    if hasattr(signal, "SIGHUP"):  # asks for a reload, of what is only being loaded
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    metrics = Metrics()
    app = create_app(settings, load_models(settings, metrics), metrics)
    server = Server(app, app.state.runtime)
    with listen(settings.host, settings.port) as listener:
        log.info("listening", host=settings.host, port=listener.getsockname()[1])
        server.run([listener])
    if server.force_exit:  # a thread may hang in a library that would not let the interpreter end
        os._exit(server.exit_code)
    return server.exit_code


def _leave(_: int, __: FrameType | None) -> None:
    """SIGTERM while nothing is accepted yet."""
    sys.exit(0)
