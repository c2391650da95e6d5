"""Pairs of pictures for pretraining, one whole and one damaged thing each, with the facts for captions.

They lie in one uncompressed file each for pictures and facts, so that training reads them as memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from training.demo.things.captions import Facts
from training.demo.things.damages import DAMAGES
from training.demo.things.scene import SIZE, Thing, draw_twins
from training.demo.things.split import CAPTIONED

Pictures: TypeAlias = NDArray[np.uint8]

PICTURES, FACTS = "pictures.npy", "facts.json"
CHUNK = 64


@dataclass(frozen=True)
class Pairs:
    """pictures (n, 2, H, W, 3), whole and damaged; facts of the damaged ones."""

    pictures: Pictures
    facts: tuple[Facts, ...]

    @classmethod
    def read(cls, folder: Path) -> Pairs:
        """What `draw_pairs` wrote. Raises OSError or ValueError for what is not that."""
        pictures = np.load(folder / PICTURES, mmap_mode="r")
        entries = json.loads((folder / FACTS).read_text())
        if len(entries) != len(pictures):
            raise ValueError(f"{folder}: {len(pictures)} pairs of pictures but {len(entries)} facts")
        facts = (
            Facts(Thing(form, material), colour, damage, (row, column))
            for form, material, colour, damage, row, column in entries
        )
        return cls(pictures, tuple(facts))


def draw_pairs(
    folder: Path, pairs: int, seed: int = 0, progress: Callable[[int], None] | None = None
) -> None:
    """Draw pairs, all captioned things in turn, on all cores; progress(drawn) now and then."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.lib.format.open_memmap(folder / PICTURES, "w+", np.uint8, (pairs, 2, SIZE, SIZE, 3))
    facts: list[Facts] = []
    for drawn, fact in _drawn(pairs, seed):
        pictures[len(facts)] = drawn
        facts.append(fact)
        if progress is not None and len(facts) % CHUNK in (0, pairs % CHUNK):
            progress(len(facts))
    pictures.flush()
    lines = [(*_names(fact), *fact.place) for fact in facts]
    (folder / FACTS).write_text(json.dumps(lines))


def draw_pair(index: int, seed: int) -> tuple[Pictures, Facts]:
    """Pair number `index` (2, H, W, 3): the same for the same seed, however many are drawn."""
    rng = default_rng((seed, index))
    thing = CAPTIONED[index % len(CAPTIONED)]
    damage = list(DAMAGES)[int(rng.integers(len(DAMAGES)))]
    for _ in count():
        try:
            whole, damaged = draw_twins(thing, int(rng.integers(2**62)), damage)
        except ValueError:
            continue  # no visible damage of this kind on this one: another one
        rows, columns = np.nonzero(damaged.mask)
        place = (int(rows.mean() * 3 // SIZE), int(columns.mean() * 3 // SIZE))
        return np.stack([whole.picture, damaged.picture]), Facts(thing, whole.colour, damage, place)
    raise AssertionError


def _drawn(pairs: int, seed: int) -> Iterator[tuple[Pictures, Facts]]:
    with ProcessPoolExecutor() as pool:
        yield from pool.map(partial(draw_pair, seed=seed), range(pairs), chunksize=CHUNK)


def _names(facts: Facts) -> tuple[str, str, str, str | None]:
    return facts.thing.form, facts.thing.material, facts.colour, facts.damage
