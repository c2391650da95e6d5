"""The service under load: `make bench`, or python -m benchmarks.serving [--quick].

Writes benchmarks/results/serving.json and serving.md. Load comes from a second process. What is compared is
measured in rounds that follow each other, and told as medians over the rounds.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import sleep

from benchmarks.camera import camera_figures
from benchmarks.large import large_figures
from benchmarks.life import reload_figures, stop_figures
from benchmarks.load import LOST
from benchmarks.peers.overload import peer_figures
from benchmarks.peers.start import start
from benchmarks.processes import (
    BUSY_CLIENTS,
    PICTURE,
    ROOT,
    Figures,
    Served,
    Target,
    picture_target,
    plain,
    put_load,
    service,
)

RESULTS = ROOT / "benchmarks" / "results"
DECODED_MIB = 256 * 256 * 3 / 2**20  # of PICTURE


class Budget:
    """How long and how often everything is measured.

    What is compared takes many short turns: a machine changes its speed within minutes.
    """

    def __init__(self, is_quick: bool) -> None:
        self.rounds = 2 if is_quick else 15
        self.seconds = 3.0
        self.long_rounds = 2 if is_quick else 5
        self.long_s = 3.0 if is_quick else 10.0
        self.overload_s = 8.0 if is_quick else 60.0
        self.peers_s = 5.0 if is_quick else 15.0
        self.stops = 2 if is_quick else 20
        self.reloads = 5 if is_quick else 100


def one_client(budget: Budget, folder: Path) -> Figures:
    """Latency of one client: plain FastAPI, batching, no batching, in turn."""
    laps: dict[str, list[float]] = {"plain": [], "batching": [], "single": []}
    with ExitStack() as stack:
        servers: dict[str, Served] = {
            "plain": stack.enter_context(plain(folder / "plain.log")),
            "batching": stack.enter_context(service(folder / "batching.log")),
            "single": stack.enter_context(service(folder / "single.log", max_batch=1)),
        }
        for _ in range(2 * budget.rounds):
            for name, served in servers.items():
                load = put_load(f"{served.url}/detect", PICTURE, seconds=budget.seconds / 3)
                laps[name].append(load.quantile_ms(0.5))
    figures = {f"{name}_p50_ms": median(values) for name, values in laps.items()}
    figures["ratio_to_plain"] = _ratio(laps["batching"], laps["plain"])
    figures["ratio_batching_on_to_off"] = _ratio(laps["batching"], laps["single"])
    return figures


def saturation(budget: Budget, folder: Path) -> Figures:
    """Pictures a second: the same work without HTTP, plain FastAPI, the service and its peers, in turn."""
    laps: dict[str, list[float]] = {}
    with ExitStack() as stack:
        targets: dict[str, Target] = {
            "plain": picture_target(stack.enter_context(plain(folder / "plain.log"))),
            "service": picture_target(stack.enter_context(service(folder / "service.log"))),
            "single": picture_target(stack.enter_context(service(folder / "single.log", max_batch=1))),
        }
        peers, reasons = start(stack, PICTURE, folder)
        for _ in range(budget.rounds):
            laps.setdefault("pipeline", []).append(_pipeline_rate(budget.seconds))
            for name, target in {**targets, **peers}.items():
                load = target.put_load(clients=BUSY_CLIENTS, seconds=budget.seconds)
                laps.setdefault(name, []).append(load.rate())
    figures = {f"{name}_per_s": median(values) for name, values in laps.items()}
    ratios = {f"ratio_to_{name}": _ratio(laps["service"], laps[name]) for name in laps if name != "service"}
    return {**figures, **ratios, **reasons}


def counting(budget: Budget, folder: Path) -> Figures:
    """Pictures a second, also of processor time, of a process that counts metrics and, in turn, does not."""
    laps: dict[str, list[float]] = {"counting": [], "uncounted": []}
    per_cpu_s: dict[str, list[float]] = {"counting": [], "uncounted": []}
    current = "counting"
    with service(folder / "counting.log", "benchmarks.uncounted") as served:
        for number in range(8 * budget.rounds):
            # Neither is always the first.
            name = ("counting", "uncounted", "uncounted", "counting")[number % 4]
            if name != current:
                served.process.send_signal(signal.SIGUSR1)
                current = name
            cpu_s = served.cpu_s()
            load = picture_target(served).put_load(clients=BUSY_CLIENTS, seconds=budget.seconds / 2)
            laps[name].append(load.rate())
            per_cpu_s[name].append(load.statuses.count(200) / (served.cpu_s() - cpu_s))
    figures = {f"{name}_per_s": median(values) for name, values in laps.items()}
    figures["ratio_counting_to_uncounted"] = _ratio(laps["counting"], laps["uncounted"])
    figures["ratio_by_processor_time"] = _ratio(per_cpu_s["counting"], per_cpu_s["uncounted"])
    return figures


def overload(budget: Budget, folder: Path) -> Figures:
    """Three times what it can do, for a minute; memory and latency before, during and after."""
    with service(folder / "overload.log") as served:
        url = f"{served.url}/detect"
        sleep(1)
        cpu_s = served.cpu_s()
        sleep(budget.long_s)
        idle_cpu = (served.cpu_s() - cpu_s) / budget.long_s
        before = put_load(url, PICTURE, seconds=budget.long_s / 2)
        full = put_load(url, PICTURE, clients=BUSY_CLIENTS, seconds=budget.long_s)
        idle_mib = served.memory_mib()
        served.forget_peak()
        load = put_load(url, PICTURE, rate=3 * full.rate(), seconds=budget.overload_s)
        peak_mib = served.memory_mib("VmHWM")
        sleep(1)
        after = put_load(url, PICTURE, seconds=budget.long_s / 2)
        after_mib = served.memory_mib()
        full_after = put_load(url, PICTURE, clients=BUSY_CLIENTS, seconds=budget.long_s)
    refused = [has for has, status in zip(load.retry_after, load.statuses, strict=True) if status == 429]
    saturation_per_s = (full.rate() + full_after.rate()) / 2  # the machine's speed changes within minutes
    bound_s = 64 / saturation_per_s
    slots_mib = 64 * (PICTURE.stat().st_size / 2**20 + DECODED_MIB)
    return {
        "idle_cpu_percent": 100 * idle_cpu,
        "saturation_per_s": saturation_per_s,
        "offered_per_s": len(load.statuses) / budget.overload_s,
        "goodput_ratio": load.rate() / saturation_per_s,
        "accepted_p99_ms": load.quantile_ms(0.99),
        "accepted_p99_to_queue_bound": load.quantile_ms(0.99) / 1000 / bound_s,
        "refused_share": len(refused) / len(load.statuses),
        "refused_p99_ms": load.quantile_ms(0.99, 429),
        "refused_with_retry_after": sum(refused) / max(1, len(refused)),
        "lost": load.statuses.count(LOST),
        "idle_mib": idle_mib,
        "peak_mib": peak_mib,
        "peak_allowed_mib": (idle_mib + slots_mib) * 1.15,
        "after_mib": after_mib,
        "p50_before_ms": before.quantile_ms(0.5),
        "p50_after_ms": after.quantile_ms(0.5),
    }


def _pipeline_rate(seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.plain", "pipeline", str(seconds)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return max(json.loads(result.stdout).values())


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each round; inf where the other answered nothing."""
    return median(one / other if other else float("inf") for one, other in zip(ours, theirs, strict=True))


def table(report: dict[str, Figures]) -> str:
    """The figures as Markdown."""
    lines = [
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
    ]
    for title, figures in report.items():
        lines += [f"## {title}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in figures.items()]
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | str) -> str:
    return value.replace("|", "/") if isinstance(value, str) else f"{value:.4g}"


def main() -> None:
    """Measure everything, or the sections that are named."""
    sections: dict[str, Callable[[Budget, Path], Figures]] = {
        "one client": one_client,
        "saturation": saturation,
        "metrics": counting,
        "camera": lambda budget, folder: camera_figures(budget.rounds, budget.seconds, folder),
        "overload": overload,
        "large pictures": lambda budget, folder: large_figures(budget.long_rounds, budget.long_s, folder),
        "peers": lambda budget, folder: peer_figures(budget.peers_s, PICTURE, folder),
        "reload": lambda budget, folder: reload_figures(budget.reloads, folder),
        "stop": lambda budget, folder: stop_figures(budget.stops, folder),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute or two, with figures to match")
    parser.add_argument("--only", choices=sections, action="append", help="a section; may be repeated")
    options = parser.parse_args()
    budget = Budget(options.quick)
    report: dict[str, Figures] = {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for title in options.only or sections:
            print(f"measuring: {title}", file=sys.stderr, flush=True)
            report[title] = sections[title](budget, Path(folder))
            (RESULTS / "serving.json").write_text(json.dumps(report, indent=2) + "\n")
            (RESULTS / "serving.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
