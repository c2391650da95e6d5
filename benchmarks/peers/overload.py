"""The service and its peers when it is too much, and when one picture of eight is bad."""

import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from time import sleep

from benchmarks.load import LOST
from benchmarks.peers.start import PEERS, start
from benchmarks.processes import BUSY_CLIENTS, Figures, Served, Target, picture_target, service

TIMES = 3  # what the service can do is offered
AT_ONCE, TRIES = 8, 10
IDLE_S = 3


def peer_figures(seconds: float, picture: Path, folder: Path) -> Figures:
    """Each alone at three times what the service can do; memory is that of all its processes together."""
    bad = picture.read_bytes()[:-1000]
    with service(folder / "service.log") as served:
        ours = picture_target(served, picture)
        rate = TIMES * ours.put_load(clients=BUSY_CLIENTS, seconds=seconds).rate()
        figures: dict[str, float | str] = {"offered_per_s": rate}
        figures |= _figures("service", served, ours, bad, rate, seconds)
    for peer in PEERS:
        with ExitStack() as stack:
            targets, reasons = start(stack, picture, folder, peers=(peer,))
            figures |= reasons
            for name, target in targets.items():
                target.served.signal_all(signal.SIGCONT)
                figures |= _figures(name, target.served, target, peer.body(bad), rate, seconds)
    return figures


def failures_of_eight(target: Target, bad: bytes) -> float:
    """How many of eight requests at once fail when one of them is bad, on average; 1 is as it should be."""
    bodies = [bad, *[target.body.read_bytes()] * (AT_ONCE - 1)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tries = [list(pool.map(lambda body: _status(target, body), bodies)) for _ in range(TRIES)]
    return mean(sum(status != 200 for status in statuses) for statuses in tries)


def _figures(name: str, served: Served, target: Target, bad: bytes, rate: float, seconds: float) -> Figures:
    idle_s = served.cpu_s()
    sleep(IDLE_S)
    idle_s = served.cpu_s() - idle_s
    failures = failures_of_eight(target, bad)
    served.forget_peak()
    load = target.put_load(rate=rate, seconds=seconds)
    refused = load.statuses.count(429)
    return {
        f"{name}_idle_cpu_percent": 100 * idle_s / IDLE_S,
        f"{name}_answered_per_s": load.rate(),
        f"{name}_answered_p99_ms": load.quantile_ms(0.99),
        f"{name}_refused_share": refused / len(load.statuses),
        f"{name}_failed_share": 1 - (load.statuses.count(200) + refused) / len(load.statuses),
        f"{name}_peak_mib": served.memory_mib("VmHWM"),
        f"{name}_failed_of_8_with_1_bad": failures,
    }


def _status(target: Target, body: bytes) -> int:
    request = urllib.request.Request(target.url, body, {"Content-Type": target.content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return LOST
