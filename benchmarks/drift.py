"""False alarms and delays of the drift alarm, over real scores: `python -m benchmarks.drift`.

Normal pictures of each demo product are drawn and scored by the demo bundle, as they are, dimmed, blurred,
and those of another product under this one's name. Lines of pictures are drawn from these scores at random.
With --bundle, --good and --category the pictures are those of a folder, without another product.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageEnhance, ImageFilter
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import ndtri

from export.contract.bundle import Bundle
from export.contract.preprocess import fit
from service.drift.detector import SHIFTS, bin_of
from service.inference.anomalymoe import Engine, Outcome, Picture
from training.demo.factory.registry import PRODUCTS
from training.demo.factory.render import render

SIZES = (30, 100, 300, 1000)
SIGMAS = (3.0, 2.0, 1.0, 0.5, 0.25)
BEFORE = 1000  # normal pictures before the change
AFTER = 5000  # pictures after it, at most
LENGTH = 20_000  # of a run without a change
LIMIT = 100_000  # pictures between two false alarms: the default of ANOMOE_DRIFT_PICTURES
BATCH = 8
BLOCK = 32  # pictures whose ranks are computed together

Array = npt.NDArray[np.float64]


class Numbers(NamedTuple):
    """Scores and distances (n,) of pictures."""

    scores: Array
    distances: Array


def main(
    bundle: Annotated[Path, typer.Option(exists=True)] = Path("bundles/demo"),
    good: Annotated[Path | None, typer.Option(help="Folder of normal pictures of a category.")] = None,
    category: Annotated[str, typer.Option()] = "",
    pictures: Annotated[int, typer.Option(min=20, help="Pictures of each demo product and kind.")] = 200,
    runs: Annotated[int, typer.Option(min=3)] = 200,
) -> None:
    """Print a table: by calibration size, runs with a false alarm and median delays in pictures."""
    engine = Engine(Bundle.read(bundle), device="cpu", threads=1)
    pools = [read(engine, good, category)] if good else [drawn(engine, name, pictures) for name in PRODUCTS]
    kinds: list[float | str] = [*SIGMAS, *list(pools[0])[1:]]
    titles = [f"{kind:g} sigma" if isinstance(kind, float) else kind for kind in kinds]
    table = Table("calibration", "false alarms", "promised at most", *map(str, titles))
    share = runs // len(pools)
    most = f"{share * len(pools) * LENGTH / LIMIT:g}"
    for size in SIZES:
        rng = np.random.default_rng(size)
        alarms = sum(false_alarms(pool, size, share, rng) for pool in track(pools, f"{size}: false alarms"))
        delays = [
            np.median(np.concatenate([delays_of(pool, kind, size, share, rng) for pool in pools]))
            for kind in track(kinds, f"{size}: delays")
        ]
        told = [f"{delay:g}" if delay <= AFTER else f"> {AFTER}" for delay in delays]
        table.add_row(str(size), f"{alarms} of {share * len(pools)}", most, *told)
    Console(width=160).print(table)


def false_alarms(pool: Mapping[str, Numbers], size: int, runs: int, rng: np.random.Generator) -> int:
    """How many runs of LENGTH normal pictures alarm."""
    calm = line(pool["normal"], (runs, LENGTH), rng)
    return int((first_alarm(sample(pool, size, runs, rng), calm, LIMIT, rng) <= LENGTH).sum())


def delays_of(
    pool: Mapping[str, Numbers], kind: float | str, size: int, runs: int, rng: np.random.Generator
) -> Array:
    """Pictures from a change to the alarm, of the runs without one before; AFTER + 1 without any."""
    normal = line(pool["normal"], (runs, BEFORE), rng)
    changed = line(shifted(pool, kind), (runs, AFTER), rng)
    found = first_alarm(sample(pool, size, runs, rng), joined(normal, changed), LIMIT, rng)
    return (found[found > BEFORE] - BEFORE).astype(np.float64)


def first_alarm(
    reference: Array, line: Numbers, limit: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The picture (runs,) with which each run alarms; one more than there are when it does not.

    reference (runs, n), the line's arrays (runs, T). As `service.drift.detector` computes it, for all runs at
    once; a test compares the two.
    """
    runs, length = line.scores.shape
    streams = [ranks(reference, line.scores, rng), ranks(np.empty((runs, 0)), line.distances, rng)]
    statistics = np.zeros((2, runs, len(SHIFTS)))
    alarms = np.full(runs, length + 1)
    for place in range(length):
        z = -ndtri(np.stack([stream[:, place] for stream in streams]))[..., None]
        statistics = (1 + statistics) * np.exp(SHIFTS * z - SHIFTS**2 / 2)
        is_new = (statistics.mean((0, 2)) >= limit) & (alarms > length)
        alarms[is_new] = place + 1
        statistics[:, alarms <= length] = 0
        if (alarms <= length).all():
            break
    return alarms


def ranks(reference: Array, values: Array, rng: np.random.Generator) -> Array:
    """Smoothed ranks (runs, T) of values among the reference (runs, n) and all earlier values."""
    binned = np.vectorize(bin_of, otypes=[np.int64])
    found, numbers = np.unique(np.concatenate([reference, values], axis=1), return_inverse=True)
    _, places = np.unique(binned(found), return_inverse=True)
    numbers = places[numbers.reshape(len(values), -1)]
    size = reference.shape[1]
    counts = np.zeros((len(values), int(numbers.max()) + 1))
    rows = np.arange(len(values))[:, None]
    np.add.at(counts, (rows, numbers[:, :size]), 1)
    result = np.empty(values.shape)
    for start in range(0, values.shape[1], BLOCK):  # all earlier blocks at once, then what is within
        own = numbers[:, size + start : size + start + BLOCK]
        above = counts[:, ::-1].cumsum(1)[:, ::-1] - counts
        earlier = np.tri(own.shape[1], k=-1)
        higher = above[rows, own] + ((own[:, None, :] > own[:, :, None]) * earlier).sum(2)
        equal = counts[rows, own] + ((own[:, None, :] == own[:, :, None]) * earlier).sum(2) + 1
        totals = size + start + 1 + np.arange(own.shape[1])
        chance = np.stack([rng.random(len(values)) for _ in totals], axis=1)
        result[:, start : start + BLOCK] = (higher + chance * equal) / totals
        np.add.at(counts, (rows, own), 1)
    return result


def shifted(pool: Mapping[str, Numbers], kind: float | str) -> Numbers:
    """The numbers after a change: scores higher by so many sigma, or those of other pictures."""
    if isinstance(kind, str):
        return pool[kind]
    scores, distances = pool["normal"]
    return Numbers(scores + kind * scores.std(), distances)


def line(numbers: Numbers, shape: tuple[int, int], rng: np.random.Generator) -> Numbers:
    """Pictures (runs, T) drawn at random."""
    chosen = rng.integers(0, len(numbers.scores), shape)
    return Numbers(numbers.scores[chosen], numbers.distances[chosen])


def joined(first: Numbers, then: Numbers) -> Numbers:
    """One line after the other."""
    return Numbers(*(np.concatenate(pair, axis=1) for pair in zip(first, then, strict=True)))


def sample(pool: Mapping[str, Numbers], size: int, runs: int, rng: np.random.Generator) -> Array:
    """Calibration scores (runs, size)."""
    return line(pool["normal"], (runs, size), rng).scores


def drawn(engine: Engine, product: str, count: int) -> dict[str, Numbers]:
    """Numbers of drawn pictures, normal and changed, under the name of a product."""
    other = next(name for name in PRODUCTS if name != product)
    normal = [render(product, 50_000 + seed, None)[0] for seed in range(count)]
    others = [render(other, 50_000 + seed, None)[0] for seed in range(count)]
    return {**changes(engine, normal, product), "new product": scored(engine, others, product)}


def read(engine: Engine, folder: Path, product: str) -> dict[str, Numbers]:
    """Numbers of the pictures of a folder, as they are and changed."""
    endings = (".png", ".jpg", ".jpeg", ".bmp")
    files = sorted(one for one in folder.rglob("*") if one.suffix.lower() in endings)
    return changes(engine, [Image.open(file).convert("RGB") for file in files], product)


def changes(engine: Engine, normal: Sequence[Image.Image], product: str) -> dict[str, Numbers]:
    """Pictures as they are, with 15 % less light, and out of focus."""
    made = {
        "normal": normal,
        "15 % less light": [ImageEnhance.Brightness(one).enhance(0.85) for one in normal],
        "blur": [one.filter(ImageFilter.GaussianBlur(1.5)) for one in normal],
    }
    return {name: scored(engine, pictures, product) for name, pictures in made.items()}


def scored(engine: Engine, pictures: Sequence[Image.Image], product: str) -> Numbers:
    """Scores, the larger of image score and evidence of the distance, and distances."""
    category = engine.category(product)
    asked = [Picture(fit(one, engine.manifest.input), product) for one in pictures]
    outcomes: list[Outcome] = []
    for start in track(range(0, len(asked), BATCH), f"scores of {product}"):
        for outcome in engine.run(asked[start : start + BATCH]):
            if isinstance(outcome, Exception):
                raise outcome
            outcomes.append(outcome)
    distances = np.array([outcome.distance for outcome in outcomes])
    scores = [max(one.raw_score, category.evidence(one.distance)) for one in outcomes]
    return Numbers(np.array(scores), distances)


if __name__ == "__main__":
    typer.run(main)
