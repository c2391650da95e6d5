"""What the experts cost: CLIP's vision tower alone and with its MoE layers, in turn, in one process.

    python -m benchmarks.moe_cost --rounds 20

Weights are made up: the time does not depend on them. Processor time is measured beside wall-clock time,
since other programs on the machine disturb it less. The median is of the ratios of single rounds, each of
which runs all that is compared right after each other, in alternating order.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.presets import full_size, tiny
from training.reporting.macs import FLOPS_PER_MAC, in_words

Forward = Callable[[Tensor], object]


class Time(NamedTuple):
    """Seconds of one forward pass."""

    wall_s: float
    processor_s: float


def forwards(model: MoECLIP) -> dict[str, Forward]:
    """What is compared: the tower, with fused experts, and with everything that the vision graph computes."""
    tower = model.clip.visual
    return {
        "CLIP": lambda image: tower.transformer(tower.embed(image)),
        "with experts": model.adapt,
        "with maps": model,
    }


def macs(forward: Forward, image: Tensor) -> int:
    """Multiply-accumulates of one forward pass."""
    with FlopCounterMode(display=False) as counter:
        forward(image)
    return counter.get_total_flops() // FLOPS_PER_MAC


def measure(compared: dict[str, Forward], image: Tensor, rounds: int) -> dict[str, list[Time]]:
    """Times of every round, after one round that does not count."""
    times: dict[str, list[Time]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        order = list(compared) if number % 2 else list(compared)[::-1]
        for name in order:
            wall, processor = time.perf_counter(), time.process_time()
            compared[name](image)
            taken = Time(time.perf_counter() - wall, time.process_time() - processor)
            if number:
                times[name].append(taken)
    return times


def summary(times: dict[str, list[Time]], counts: dict[str, int], baseline: str = "CLIP") -> dict[str, Any]:
    """Medians, and the median ratio to the baseline of the same round less 1."""
    base = times[baseline]
    return {
        name: {
            "macs": counts[name],
            "more_macs": counts[name] / counts[baseline] - 1,
            "processor_s": statistics.median(one.processor_s for one in taken),
            "more_processor_time": _more(
                [one.processor_s for one in taken], [one.processor_s for one in base]
            ),
            "wall_s": statistics.median(one.wall_s for one in taken),
            "more_wall_time": _more([one.wall_s for one in taken], [one.wall_s for one in base]),
        }
        for name, taken in times.items()
    }


def _more(taken: list[float], base: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(taken, base, strict=True)) - 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--without-maps", action="store_true", help="time CLIP and its experts only")
    parser.add_argument("--output", type=Path, help="write the figures as JSON too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = MoECLIP(full_size() if options.size == "full" else tiny()).eval()
    image = torch.randn(options.batch, 3, *model.config.clip.vision.image_size)
    with torch.inference_mode():
        compared = forwards(model)
        counts = {name: macs(forward, image) for name, forward in compared.items()}
        if options.without_maps:
            del compared["with maps"]
        figures = summary(measure(compared, image, options.rounds), counts)
    table = Table("", "MACs", "more", "processor s", "more", "wall clock s", "more")
    for name, one in figures.items():
        times = (f"{one[f'{kind}_s']:.3f} {one[f'more_{kind}_time']:+.2%}" for kind in ("processor", "wall"))
        table.add_row(name, in_words(one["macs"]), f"{one['more_macs']:+.2%}", *" ".join(times).split())
    Console().print(table)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({**vars(options), "output": None, "figures": figures}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
