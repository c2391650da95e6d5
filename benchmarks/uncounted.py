"""The service, in which SIGUSR1 turns the counting of metrics off and on again: what does counting cost?

In one process, as two of the same program differ by more than that.
"""

import signal
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from service.cli.commands import app

CALLS = {
    Counter: ("inc", "labels"),
    Gauge: ("inc", "dec", "set", "labels"),
    Histogram: ("observe", "labels"),
}


def main() -> None:
    """As `anomoe`."""
    idle: dict[tuple[type, str], Callable[..., object]] = {
        (kind, name): lambda metric, *_: metric for kind, names in CALLS.items() for name in names
    }

    def switch(*_: object) -> None:
        for (kind, name), call in list(idle.items()):
            idle[kind, name] = getattr(kind, name)
            setattr(kind, name, call)

    signal.signal(signal.SIGUSR1, switch)
    app()


if __name__ == "__main__":
    main()
