"""Structured logs: lines for people on a terminal, JSON for machines elsewhere."""

import ctypes
import logging
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import Processor

from service.security import KEY_PREFIX, LIKE_A_KEY

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's records to stderr in one form; `level` like `info`."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=SHARED, processors=_render(sys.stderr.isatty()))
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    _silence_decoders()


def _silence_decoders() -> None:
    """What Pillow and libtiff say about a broken file is for its sender, who is told; not for the log.

    libtiff writes to the process's stderr, between the lines of the log; Pillow offers no way to its switch.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    with suppress(OSError, AttributeError):
        loaded = set(re.findall(r"/\S*/libtiff\S*", Path("/proc/self/maps").read_text(encoding="utf-8")))
        for library in map(ctypes.CDLL, loaded):
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def _render(for_terminal: bool) -> list[Processor]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if for_terminal:
        # The default traceback shows every local variable, which takes seconds and tells secrets.
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [drop, console, _without_keys]
    json = structlog.processors.JSONRenderer()
    return [drop, structlog.processors.format_exc_info, json, _without_keys]


def _without_keys(_: object, __: str, line: Any) -> str:
    """A line without the keys that a caller put into a path, a request id or a client id."""
    return LIKE_A_KEY.sub(f"{KEY_PREFIX}***", line)
