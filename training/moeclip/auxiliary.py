"""The auxiliary data set: pictures with masks and class names, and which of them make up each batch.

Legend: n pictures, S side of the square pictures.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from export.contract.manifest import InputSpec
from export.contract.names import canonical_name
from training.data.dataset import without_mask
from training.data.pictures import CACHE_LIMIT_BYTES, DataError, Sample, load_mask, load_picture
from training.data.sets.samples import SPLITS, Split

Sampling = Literal["balanced", "plain"]
Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]


def class_name(sample: Sample) -> str:
    """What the picture shows, as the service reads it: its description, or the name of its category."""
    return canonical_name(sample.description or sample.category)


def auxiliary_samples(
    samples: Sequence[Sample], source: object, splits: Sequence[Split] = SPLITS
) -> list[Sample]:
    """Those of the splits that can be trained on: all good pictures, and anomalous ones with a mask.

    source: where they come from, for the message. Raises DataError where one of the two is missing.
    """
    unknown = set(without_mask(samples))
    usable = [one for one in samples if one.split in splits and one not in unknown]
    for is_anomalous, name in ((True, "anomalous pictures with masks"), (False, "good pictures")):
        if not any(one.is_anomalous is is_anomalous for one in usable):
            raise DataError(
                f"{source}: no {name} found in {', '.join(splits)}, an auxiliary data set needs both"
            )
    return usable


class AuxiliarySet:
    """Pictures with their masks at model size; decoded ones are kept as long as all fit into memory."""

    def __init__(self, samples: Sequence[Sample], spec: InputSpec) -> None:
        self.samples, self.spec = tuple(samples), spec
        self.names = [class_name(one) for one in self.samples]
        self.is_anomalous = np.array([one.is_anomalous for one in self.samples])
        total_bytes = len(self.samples) * spec.height * spec.width * 4
        self._kept: dict[int, tuple[Pixels, Masks]] | None = {} if total_bytes <= CACHE_LIMIT_BYTES else None

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, rows: npt.NDArray[np.int64]) -> tuple[Pixels, Masks]:
        """Pictures (n, S, S, 3) and masks (n, S, S). Raises DataError naming a file that cannot be read."""
        pixels, masks = zip(*(self._load(row) for row in rows.tolist()), strict=True)
        return np.stack(pixels), np.stack(masks)

    def _load(self, row: int) -> tuple[Pixels, Masks]:
        if self._kept is not None and row in self._kept:
            return self._kept[row]
        sample = self.samples[row]
        mask = load_mask(sample, self.spec)
        assert mask is not None  # auxiliary_samples leaves none without
        loaded = load_picture(sample.path, self.spec), mask
        if self._kept is not None:
            self._kept[row] = loaded
        return loaded


class Deck:
    """Deals cards in random order, every one once before any comes again."""

    def __init__(self, cards: Sequence[int], rng: np.random.Generator) -> None:
        self._cards, self._rng = np.array(cards), rng
        self._left: list[int] = []

    def deal(self) -> int:
        if not self._left:
            self._left = self._rng.permutation(self._cards).tolist()
        return self._left.pop()


def batches(
    data: AuxiliarySet, batch_size: int, sampling: Sampling, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers of each batch, without end; always the same ones for a seed.

    balanced: good and anomalous pictures in turn, each time of the next class, so that neither classes with
    many pictures nor the commoner state outweigh the others. plain: all pictures alike.
    """
    deal = _balanced(data, seed) if sampling == "balanced" else _plain(data, seed)
    while True:
        yield np.array([next(deal) for _ in range(batch_size)])


def _plain(data: AuxiliarySet, seed: int) -> Iterator[int]:
    deck = Deck(range(len(data)), np.random.default_rng(seed))
    while True:
        yield deck.deal()


def _balanced(data: AuxiliarySet, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    pools: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    for row, name in enumerate(data.names):
        pools[bool(data.is_anomalous[row])].setdefault(name, []).append(row)
    decks = {state: [Deck(rows, rng) for rows in classes.values()] for state, classes in pools.items()}
    turns = {state: Deck(range(len(classes)), rng) for state, classes in decks.items()}
    while True:
        for state in (True, False):
            yield decks[state][turns[state].deal()].deal()
