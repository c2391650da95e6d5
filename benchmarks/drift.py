"""False alarms and delays of the drift alarm, over real scores: `python -m benchmarks.drift`.

Pictures are scored once (`drift_scores`); lines of pictures are drawn from these scores at random, as many of
each product. With --bundle, --good and --category the pictures are those of a folder. Writes scores and a
figure of the delays under benchmarks/results/.
"""

from collections.abc import Mapping, Sequence
from math import log2, log10
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import typer
from scipy.special import ndtri

from benchmarks.drift_scores import NORMAL, Numbers, Pool, demo_pool, folder_pool, kept
from export.contract.bundle import Bundle
from service.drift.detector import BINS, MOST, SHIFTS, bin_of
from service.inference.anomalymoe import Engine
from training.demo.factory.registry import PRODUCTS

RESULTS = Path("benchmarks/results")
SIZES = (30, 100, 300, 1000)
DRAWN = 100  # of SIZES, in the figure
SIGMAS = (3.0, 2.0, 1.0, 0.5, 0.25)
BEFORE = 1000  # normal pictures before the change
AFTER = 5000  # pictures after it, at most
LENGTH = 20_000  # of a run without a change
LIMIT = 100_000  # pictures between two false alarms: the default of ANOMOE_DRIFT_PICTURES
BLOCK = 32  # pictures whose ranks are computed together

Floats = npt.NDArray[np.float64]
Bins = npt.NDArray[np.int64]


class Line(NamedTuple):
    """Bins of scores and of distances (runs, T)."""

    scores: Bins
    distances: Bins


def main(
    bundle: Annotated[Path, typer.Option(exists=True)] = Path("bundles/demo"),
    good: Annotated[Path | None, typer.Option(help="Folder of normal pictures of a category.")] = None,
    other: Annotated[Path | None, typer.Option(help="Folder of pictures of another product.")] = None,
    category: Annotated[str, typer.Option()] = "",
    pictures: Annotated[int, typer.Option(min=20, help="Normal pictures of each demo product.")] = 300,
    runs: Annotated[int, typer.Option(min=3)] = 200,
) -> None:
    """Print a table: by calibration size, runs with a false alarm and median delays in pictures."""

    def scored() -> Mapping[str, Pool]:
        engine = Engine(Bundle.read(bundle), device="cpu", threads=1)
        if good:
            return {category: folder_pool(engine, category, good, other)}
        return {product: demo_pool(engine, product, pictures) for product in PRODUCTS}

    file = RESULTS / f"drift-{Bundle.read(bundle).digest[-8:]}-{category or pictures}.npz"
    pools = list(kept(file, scored).values())
    kinds = [*SIGMAS, *(kind for kind in pools[0] if kind != NORMAL)]
    titles = [f"{kind:g} sigma" if isinstance(kind, float) else kind for kind in kinds]
    most = f"{runs * LENGTH / LIMIT:g}"
    print("| calibration pictures | false alarms, of at most " + " | ".join([most, *titles]) + " |")
    print("|" + "---|" * (len(titles) + 2))
    for size in SIZES:
        rng = np.random.default_rng(size)
        alarms = false_alarms(pools, size, runs, rng)
        delays = [delays_of(pools, kind, size, runs, rng) for kind in kinds]
        told = [f"{delay:g}" if delay <= AFTER else f"> {AFTER}" for delay in map(np.median, delays)]
        print(f"| {size} | {alarms} | " + " | ".join(told) + " |", flush=True)
        if size == DRAWN:
            figure = drawn(delays[: len(SIGMAS)], category or "demo")
            (RESULTS / f"drift-{category or 'demo'}.svg").write_text(figure)


def false_alarms(pools: Sequence[Pool], size: int, runs: int, rng: np.random.Generator) -> int:
    """How many runs of LENGTH normal pictures alarm."""
    reference = line(pools, NORMAL, (runs, size), rng).scores
    calm = line(pools, NORMAL, (runs, LENGTH), rng)
    return int((first_alarm(reference, calm, LIMIT, rng) <= LENGTH).sum())


def delays_of(
    pools: Sequence[Pool], kind: float | str, size: int, runs: int, rng: np.random.Generator
) -> Bins:
    """Pictures from a change to the alarm, of the runs without one before; AFTER + 1 where there is none."""
    reference = line(pools, NORMAL, (runs, size), rng).scores
    parts = line(pools, NORMAL, (runs, BEFORE), rng), line(pools, kind, (runs, AFTER), rng)
    changing = Line(*(np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True)))
    found = first_alarm(reference, changing, LIMIT, rng)
    return found[found > BEFORE] - BEFORE


def line(pools: Sequence[Pool], kind: float | str, shape: tuple[int, int], rng: np.random.Generator) -> Line:
    """Pictures (runs, T) drawn at random, those of a run from one product; see `changed` for the kind."""
    binned = [Line(*map(bins, changed(pool, kind))) for pool in pools]
    runs = [binned[run % len(pools)] for run in range(shape[0])]
    chosen = [rng.integers(0, len(one.scores), shape[1]) for one in runs]
    rows = [Line(one.scores[which], one.distances[which]) for one, which in zip(runs, chosen, strict=True)]
    return Line(*map(np.stack, zip(*rows, strict=True)))


def changed(pool: Pool, kind: float | str) -> Numbers:
    """The numbers after a change: scores higher by so many sigma, or those of other pictures."""
    if isinstance(kind, str):
        return pool[kind]
    scores, distances = pool[NORMAL]
    return Numbers(scores + kind * scores.std(), distances)


def bins(values: Floats) -> Bins:
    """The service's own."""
    return np.array([bin_of(value) for value in values.flat], np.int64).reshape(values.shape)


def first_alarm(reference: Bins, line: Line, limit: float, rng: np.random.Generator) -> Bins:
    """The picture (runs,) with which each run alarms; one more than there are when it does not.

    reference (runs, n). As `service.drift` computes it, for all runs at once; a test compares the two.
    """
    runs, length = line.scores.shape
    nothing = np.empty((runs, 0), np.int64)
    p_values = np.stack([ranks(reference, line.scores, rng), ranks(nothing, line.distances, rng)])
    z = -ndtri(np.clip(p_values, 1e-12, 1 - 1e-12)).T[..., None]  # (T, runs, streams, 1)
    statistics = np.zeros((runs, 2, len(SHIFTS)))
    evidence = np.empty((length, runs))
    for start in range(0, length, BLOCK):
        for place, ratios in enumerate(np.exp(SHIFTS * z[start : start + BLOCK] - SHIFTS**2 / 2), start):
            statistics = np.minimum((1 + statistics) * ratios, MOST)
            evidence[place] = statistics.sum((1, 2))
    has_alarm = evidence >= limit * statistics[0].size
    return np.where(has_alarm.any(0), has_alarm.argmax(0), length) + 1


def ranks(reference: Bins, values: Bins, rng: np.random.Generator) -> Floats:
    """Smoothed ranks (runs, T) of values among the reference (runs, n) and all earlier values."""
    is_used = np.zeros(BINS, np.int64)
    is_used[reference], is_used[values] = 1, 1
    places = is_used.cumsum() - 1  # few of all the bins are in use
    runs, length = values.shape
    rows = np.arange(runs)[:, None]
    counts = np.zeros((runs, int(is_used.sum())), np.int64)
    np.add.at(counts, (rows, places[reference]), 1)
    result = np.empty(values.shape)
    for start in range(0, length, BLOCK):  # all earlier blocks at once, then what is within
        own = places[values[:, start : start + BLOCK]]
        until = counts.cumsum(1)
        earlier = np.tri(own.shape[1], k=-1, dtype=bool)
        difference = own[:, None, :] - own[:, :, None]
        higher = until[:, -1:] - until[rows, own] + ((difference > 0) & earlier).sum(2)
        equal = counts[rows, own] + ((difference == 0) & earlier).sum(2) + 1
        totals = reference.shape[1] + start + 1 + np.arange(own.shape[1])
        result[:, start : start + BLOCK] = (higher + rng.random(own.shape) * equal) / totals
        np.add.at(counts, (rows, own), 1)
    return result


def drawn(delays: Sequence[Bins], title: str) -> str:
    """Delays (runs,) for each of SIGMAS as an SVG: within how many pictures how many runs alarm."""
    width, height, left, base = 560, 320, 60, 270
    shares = {0.9: "#e02f44", 0.5: "#3274d9", 0.1: "#299c46"}

    def point(sigma: float, pictures: float) -> tuple[float, float]:
        return left + 120 * (log2(sigma) + 2), base - 65 * log10(pictures)

    parts = [f'<rect width="{width}" height="{height}" fill="white"/>']
    parts += [_text(point(sigma, 1)[0], base + 18, f"{sigma:g} sigma") for sigma in SIGMAS]
    for pictures in (1, 10, 100, 1000):
        y = point(1, pictures)[1]
        parts += [f'<path d="M{left} {y}H{width - 40}" stroke="#ddd"/>', _text(24, y + 4, str(pictures))]
    for row, (share, colour) in enumerate(shares.items()):
        points = [
            point(sigma, float(np.quantile(one, share))) for sigma, one in zip(SIGMAS, delays, strict=True)
        ]
        joined = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(width - 130, 20 + 15 * row, f"{share:.0%} of lines", colour))
    parts.append(_text(left, height - 10, f"{title}: pictures until the alarm, by the shift of the score"))
    size = f'width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{"".join(parts)}</svg>\n'


def _text(x: float, y: float, text: str, colour: str = "#444") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" font-size="11">{text}</text>'


if __name__ == "__main__":
    typer.run(main)
