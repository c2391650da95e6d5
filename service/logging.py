"""Structured logs: lines for people on a terminal, JSON for machines elsewhere."""

import ctypes
import logging
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

from service.api_keys import KEY_PREFIX, LIKE_A_KEY

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class _Lines(structlog.WriteLogger):
    """Lines on stderr. The standard library's logger in between would treble what a line costs."""

    def __init__(self, name: str = "anomoe") -> None:
        super().__init__(cast("TextIO", _Unfailing(sys.stderr)))
        self.name = name  # as `add_logger_name` expects it


class _Unfailing:
    """A file whose reader may have gone, or its disk be full: lines are lost then, and nothing else."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._file.flush()


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's records to stderr in one form; `level` like `info`."""
    rendering = _rendering(sys.stderr.isatty())
    structlog.configure(
        processors=[*SHARED, *rendering],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )
    handler = logging.StreamHandler(sys.stderr)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=SHARED, processors=processors))
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


def _rendering(for_terminal: bool) -> list[Processor]:
    if for_terminal:
        # The default traceback shows every local variable, which takes seconds and tells secrets.
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [console, _without_keys]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(), _without_keys]


def _without_keys(_: object, __: str, line: Any) -> str:
    """A line without the keys that a caller put into a path, a request id or a client id."""
    return LIKE_A_KEY.sub(f"{KEY_PREFIX}***", line)
