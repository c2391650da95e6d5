"""The sparse forward pass: backbone -> router -> the chosen experts, each once -> head.

Shape letters: B pictures, b rows of one expert, D width, K top-k, M centres, h w patch grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.contract.appearance import appearance
from export.contract.bundle import Bundle
from export.contract.category import Category, FloatArray
from export.contract.decision import calibrate, nearest_category
from export.contract.manifest import LEVELS, ExpertSpec
from export.contract.preprocess import Pixels
from service.inference.backends.base import Array, Device, DeviceTensor, GraphError
from service.inference.backends.loading import open_graphs
from service.schemas.findings import Selected
from service.throttle import Pause, no_pause

Feeds = dict[str, Array | DeviceTensor]


class UnknownCategoryError(LookupError):
    """A request names a category that the bundle does not hold."""


@dataclass(frozen=True, eq=False)
class Picture:
    """uint8 pixels (H, W, 3) at model size, and the category when the request names one."""

    pixels: Pixels
    category: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the graphs say about one picture.

    category: the one whose calibration was used; is_named: by the request, else the nearest to the picture.
    distance: see `Category.distance`.
    level_maps (3, h, w): calibrated and gated errors in the order of LEVELS. map (Hm, Wm): their head's sum.
    level_scores (3,). experts: highest weight first. timings_ms: of the batch the picture was in.
    """

    category: Category
    is_named: bool
    distance: float
    level_maps: FloatArray
    map: FloatArray
    raw_score: float
    level_scores: FloatArray
    experts: tuple[Selected, ...]
    timings_ms: dict[str, float]


class _Match(NamedTuple):
    """The category that a picture is judged by, whether its request named it, and the distance to it."""

    category: Category
    is_named: bool
    distance: float


@dataclass(frozen=True, eq=False)
class _Batch:
    """What the experts of one batch share; experts, gates (B, K)."""

    feeds: Feeds
    experts: npt.NDArray[np.int64]
    gates: FloatArray
    matches: list[_Match]


class Engine:
    """Computes batches of pictures with the graphs of one bundle; several threads may do so at once.

    device, threads: see `OnnxGraph`. rest: called after each graph.
    Raises BundleError or GraphError when the bundle's graphs cannot be loaded.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device = "auto", threads: int = 0, rest: Pause = no_pause
    ) -> None:
        self.manifest = bundle.manifest
        self.categories: Mapping[str, Category] = bundle.categories
        self._experts = {expert.column: expert for expert in bundle.manifest.experts}
        self._graphs = open_graphs(bundle, bundle.manifest.graphs, device, threads, rest)

    @property
    def device(self) -> str:
        """Where it computes: cuda or cpu."""
        return self._graphs["backbone"].device

    def category(self, name: str) -> Category:
        """A category by name. Raises UnknownCategoryError, which lists the known ones."""
        if name not in self.categories:
            raise UnknownCategoryError(f"category {name!r} is not one of {', '.join(self.categories)}")
        return self.categories[name]

    def run(self, pictures: Sequence[Picture]) -> list[Outcome | Exception]:
        """Compute a batch: one outcome or one exception per picture, in order.

        A picture with an unknown category, or one that chose an expert that failed, gets an exception in its
        place; the others are unaffected. Raises GraphError when the backbone, router or head fails.
        """
        checked = [self._check(picture) for picture in pictures]
        outcomes = iter(self._run([item for item in checked if isinstance(item, Picture)]))
        return [next(outcomes) if isinstance(item, Picture) else item for item in checked]

    def samples(self, count: int) -> list[Picture]:
        """Noise of different colours, so that the router spreads it over the experts as it does pictures."""
        rng = np.random.default_rng(0)
        size = (self.manifest.input.height, self.manifest.input.width, 3)
        highest = rng.integers(32, 256, (count, 3))
        return [Picture(rng.integers(0, high, size, np.uint8)) for high in highest]

    def warm_up(self, batch: int = 1) -> None:
        """Run every graph with one picture and with a full batch. Raises GraphError when one fails."""
        height, width = self.manifest.input.height, self.manifest.input.width
        for size in sorted({1, batch}):
            images = np.zeros((size, height, width, 3), np.uint8)
            encoded = self._encode(images, [None] * size)
            for expert in self._experts.values():
                self._errors(encoded, expert, range(size))
            self._graphs["head"].run(
                {"levels": np.zeros((size, len(LEVELS), *self.manifest.grid), np.float32)}
            )

    def _check(self, picture: Picture) -> Picture | Exception:
        wanted = (self.manifest.input.height, self.manifest.input.width, 3)
        if picture.pixels.shape != wanted or picture.pixels.dtype != np.uint8:
            return ValueError(f"pixels: {picture.pixels.dtype} {picture.pixels.shape}, not uint8 {wanted}")
        try:
            if picture.category is not None:
                self.category(picture.category)
        except UnknownCategoryError as error:
            return error
        return picture

    def _run(self, pictures: Sequence[Picture]) -> list[Outcome | Exception]:
        if not pictures:
            return []
        clock = [perf_counter()]
        images = np.stack([picture.pixels for picture in pictures])
        batch = self._encode(images, [picture.category for picture in pictures])
        clock.append(perf_counter())
        levels, failures = self._levels(batch)
        clock.append(perf_counter())
        healthy = [row for row in range(len(pictures)) if row not in failures]
        head = self._graphs["head"].run({"levels": levels[healthy]}) if healthy else {}
        clock.append(perf_counter())
        timings = _laps_ms(clock)
        results: dict[int, Outcome | Exception] = {**failures}
        for place, row in enumerate(healthy):
            scored = {name: values[place].astype(np.float32) for name, values in head.items()}
            results[row] = self._outcome(batch, row, levels[row], scored, timings)
        return [results[row] for row in range(len(pictures))]

    def _encode(self, images: Pixels, names: Sequence[str | None]) -> _Batch:
        """Backbone and router, and the category of each picture."""
        tokens = self._graphs["backbone"].run_on_device({"image": images})
        cls = tokens["cls"].numpy().astype(np.float32)
        choice = self._graphs["router"].run({"cls": cls})
        matches = [self._match(*one) for one in zip(names, cls, images, strict=True)]
        feeds: Feeds = {"image": images, "features": tokens["features"]}
        return _Batch(feeds, choice["experts"].astype(np.int64), choice["gates"].astype(np.float32), matches)

    def _match(self, name: str | None, cls: FloatArray, pixels: Pixels) -> _Match:
        candidates = self.categories.values() if name is None else [self.category(name)]
        category, distance = nearest_category(cls, appearance(pixels), candidates)
        return _Match(category, name is not None, distance)

    def _levels(self, batch: _Batch) -> tuple[FloatArray, dict[int, GraphError]]:
        """Calibrated and gated level maps (B, 3, h, w), and the rows whose experts failed."""
        levels = np.zeros((len(batch.matches), len(LEVELS), *self.manifest.grid), np.float32)
        failures: dict[int, GraphError] = {}
        columns: list[int] = np.unique(batch.experts).tolist()
        for column in columns:
            chosen = batch.experts == column
            weights = (batch.gates * chosen).sum(axis=1)
            rows = [row for row, any_slot in enumerate(chosen.any(axis=1)) if any_slot]
            try:
                expert = self._expert(column)
                errors = self._errors(batch, expert, rows)
            except GraphError as failure:
                failures.update(dict.fromkeys(rows, failure))
                continue
            for row, error in zip(rows, errors, strict=True):
                category = batch.matches[row].category
                calibrated = calibrate(error, category.error_offset[column], category.error_scale[column])
                levels[row, LEVELS.index(expert.level)] += weights[row] * calibrated
        for row, level_maps in enumerate(levels):
            if not np.isfinite(level_maps).all():
                failures.setdefault(row, GraphError("experts: an error is not finite"))
        return levels, failures

    def _expert(self, column: int) -> ExpertSpec:
        if column not in self._experts:
            raise GraphError(f"router: column {column} was chosen, the bundle holds {sorted(self._experts)}")
        return self._experts[column]

    def _errors(self, batch: _Batch, expert: ExpertSpec, rows: Sequence[int]) -> FloatArray:
        """Run one expert on the rows that chose it: errors (b, h, w)."""
        graph = self._graphs[expert.graph]
        feeds: Feeds = {**batch.feeds, "rows": np.array(rows, np.int64)}
        if expert.level == "component":
            feeds["centres"], feeds["valid"] = _padded([batch.matches[row].category.centres for row in rows])
        errors = graph.run({name: feeds[name] for name in graph.inputs})["error"].astype(np.float32)
        wanted = (len(rows), *self.manifest.grid)
        if errors.shape != wanted:
            raise GraphError(f"{expert.graph}: error has shape {errors.shape}, not {wanted}")
        return errors

    def _outcome(
        self,
        batch: _Batch,
        row: int,
        level_maps: FloatArray,
        head: Mapping[str, FloatArray],
        timings_ms: dict[str, float],
    ) -> Outcome:
        match = batch.matches[row]
        gates = batch.gates[row]
        slots = np.argsort(-gates, kind="stable")
        chosen = [(self._experts[batch.experts[row, slot]], float(gates[slot])) for slot in slots]
        return Outcome(
            category=match.category,
            is_named=match.is_named,
            distance=match.distance,
            level_maps=level_maps,
            map=head["map"],
            raw_score=float(head["score"]),
            level_scores=head["level_scores"],
            experts=tuple([Selected(spec.level, spec.index, gate) for spec, gate in chosen]),
            timings_ms=timings_ms,
        )


def _laps_ms(clock: Sequence[float]) -> dict[str, float]:
    laps = [(end - start) * 1000 for start, end in pairwise(clock)]
    return {"backbone": laps[0], "experts": laps[1], "head": laps[2]}


def _padded(centres: Sequence[FloatArray]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Centres of several categories as one array (b, M, D), with valid (b, M) false where padded."""
    sizes = [len(rows) for rows in centres]
    valid = np.arange(max(sizes)) < np.array(sizes)[:, None]
    padded = np.zeros((len(sizes), max(sizes), centres[0].shape[1]), np.float32)
    padded[valid] = np.concatenate(centres)
    return padded, valid
