"""What is said while pictures are read, as lines on the error stream."""

import logging
import sys


class _Lines(logging.Handler):
    """Each line once, to the error stream as it is then: a progress bar may have taken its place."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line not in self._told:
            self._told.add(line)
            print(line, file=sys.stderr)


def log_to_stderr() -> None:
    """Show what the package logs, in place of a former call."""
    logger = logging.getLogger("training")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Lines()]
