"""The zero-shot forward pass: vision once a batch, then head on every (picture, class name) pair.

Shape letters: B pictures, r rows (pairs), k class names of one picture, E embedding width, Hm Wm map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import perf_counter

import numpy as np
import numpy.typing as npt

from export.contract.bundle import Bundle
from export.contract.category import FloatArray
from export.contract.preprocess import Pixels
from service.inference.backends.base import Array, Device, DeviceTensor, GraphError
from service.inference.backends.loading import open_graphs
from service.inference.text_tower import ClassText, TextTower
from service.throttle import Pause, no_pause

MAX_ROWS = 32  # pairs in one run of the head: bounds its memory, whatever the batch asks

GRAPHS = ("vision", "head")


@dataclass(frozen=True, eq=False)
class ZeroShotInput:
    """uint8 pixels (H, W, 3) at model size, and the texts of the class names to compare them with.

    medical: the post-processing of medical pictures. all_maps: whether maps other than the best name's
    are wanted.
    """

    pixels: Pixels
    texts: tuple[ClassText, ...]
    medical: bool = False
    all_maps: bool = False


@dataclass(frozen=True, eq=False)
class ZeroShotOutcome:
    """What the graphs say about one picture.

    best: the place of the name that fits the picture best. scores: 0..1, one a name. maps: (Hm, Wm) in
    0..1 by the place of their name, all of them or the best one's. timings_ms: of the picture's batch.
    """

    best: int
    scores: tuple[float, ...]
    maps: Mapping[int, FloatArray]
    has_all_maps: bool
    timings_ms: dict[str, float]

    def at(self, places: Sequence[int]) -> "ZeroShotOutcome":
        """The same for the names at some places, among them the best one's: one name may come twice."""
        best = places.index(self.best)
        wanted = range(len(places)) if self.has_all_maps else (best,)
        maps = {new: self.maps[places[new]] for new in wanted}
        return replace(self, best=best, scores=tuple(self.scores[old] for old in places), maps=maps)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All pairs of a batch, picture by picture: rows, medical, is_kept (r,), texts (r, 2, E).

    is_kept: the map is wanted.
    """

    rows: npt.NDArray[np.int64]
    texts: FloatArray
    medical: npt.NDArray[np.bool_]
    is_kept: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the head says, by pair: scores (r,), maps (Hm, Wm) that are kept, errors."""

    scores: FloatArray
    maps: dict[int, FloatArray] = field(default_factory=dict[int, FloatArray])
    errors: dict[int, GraphError] = field(default_factory=dict[int, GraphError])


class ZeroShotEngine:
    """Computes batches of questions with the vision and head graphs of one bundle.

    `tower` encodes class names for it. Several threads may use both at once.
    device, threads: see `open_graph`. rest: called after each graph.
    Raises BundleError or GraphError when the bundle's tokenizer or graphs cannot be loaded.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device = "auto", threads: int = 0, rest: Pause = no_pause
    ) -> None:
        self.manifest = bundle.manifest
        self._width = bundle.manifest.graphs["vision"].outputs["embedding"].shape[-1]
        self.tower = TextTower(bundle, device=device, threads=threads)
        rest()
        self._graphs = open_graphs(bundle, GRAPHS, device, threads, rest)

    @property
    def device(self) -> str:
        """Where it computes: cuda or cpu."""
        return self._graphs["vision"].device

    def run(self, questions: Sequence[ZeroShotInput]) -> list[ZeroShotOutcome | Exception]:
        """Compute a batch: one finding or one exception per question, in order.

        A malformed question, or one whose rows the head failed on, gets an exception in its place; the
        others are unaffected. Raises GraphError when vision fails.
        """
        checked = [self._complaint(question) or question for question in questions]
        findings = iter(self._run([item for item in checked if isinstance(item, ZeroShotInput)]))
        return [next(findings) if isinstance(item, ZeroShotInput) else item for item in checked]

    def warm_up(self, batch: int = 1) -> None:
        """Run every graph, with one picture and with a full batch. Raises GraphError when one fails."""
        samples = self.samples(batch)
        for size in sorted({1, batch}):
            for result in self.run(samples[:size]):
                if isinstance(result, Exception):
                    raise result

    def samples(self, count: int) -> list[ZeroShotInput]:
        """Noise with one class name. Raises GraphError when the text tower fails."""
        text = self.tower.warm_up()
        size = (self.manifest.input.height, self.manifest.input.width, 3)
        rng = np.random.default_rng(0)
        return [ZeroShotInput(rng.integers(0, 256, size, np.uint8), (text,)) for _ in range(count)]

    def _complaint(self, question: ZeroShotInput) -> ValueError | None:
        wanted = (self.manifest.input.height, self.manifest.input.width, 3)
        pixels = question.pixels
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            return ValueError(f"pixels: {pixels.dtype} {pixels.shape}, not uint8 {wanted}")
        shapes = [text.states.shape for text in question.texts]
        if not shapes or set(shapes) != {(2, self._width)}:
            return ValueError(f"texts: {shapes}, not at least one of (2, {self._width})")
        return None

    def _run(self, questions: Sequence[ZeroShotInput]) -> list[ZeroShotOutcome | Exception]:
        if not questions:
            return []
        clock = [perf_counter()]
        seen = self._graphs["vision"].run_on_device(
            {"image": np.stack([question.pixels for question in questions])}
        )
        embedding = seen["embedding"].numpy().astype(np.float32)
        best = [_best(question, unit) for question, unit in zip(questions, embedding, strict=True)]
        clock.append(perf_counter())
        judged = self._judge(seen, _pairs(questions, best))
        clock.append(perf_counter())
        vision_s, head_s = (end - start for start, end in pairwise(clock))
        timings_ms = {"vision": vision_s * 1000, "head": head_s * 1000}
        ends: list[int] = np.cumsum([len(question.texts) for question in questions]).tolist()
        return [
            _finding(judged, range(end - len(question.texts), end), question, place, timings_ms)
            for question, place, end in zip(questions, best, ends, strict=True)
        ]

    def _judge(self, seen: Mapping[str, DeviceTensor], pairs: _Pairs) -> _Judged:
        """Run the head on all pairs, some at a time; what fails, fails for those."""
        count = len(pairs.rows)
        judged = _Judged(np.zeros(count, np.float32))
        for start in range(0, count, MAX_ROWS):
            part = slice(start, start + MAX_ROWS)
            places = range(count)[part]
            try:
                judged.scores[part], maps = self._head(seen, pairs, part)
            except GraphError as error:
                judged.errors.update(dict.fromkeys(places, error))
                continue
            for place, raw_map in zip(places, maps, strict=True):
                if not (np.isfinite(judged.scores[place]) and np.isfinite(raw_map).all()):
                    judged.errors[place] = GraphError("head: a score or map is not finite")
                elif pairs.is_kept[place]:
                    judged.maps[place] = raw_map.copy()
        return judged

    def _head(
        self, seen: Mapping[str, DeviceTensor], pairs: _Pairs, part: slice
    ) -> tuple[FloatArray, FloatArray]:
        """Scores (r,) and maps (r, Hm, Wm) of some pairs."""
        rows = pairs.rows[part]
        feeds: dict[str, Array | DeviceTensor] = {
            "tokens": seen["tokens"],
            "summary": seen["summary"],
            "rows": rows,
            "text": pairs.texts[part],
            "medical": pairs.medical[part],
        }
        answer = self._graphs["head"].run(feeds)
        for name, wanted in (("score", (len(rows),)), ("map", (len(rows), *self.manifest.map_size))):
            if answer[name].shape != wanted:
                raise GraphError(f"head: {name} has shape {answer[name].shape}, not {wanted}")
        return answer["score"].astype(np.float32), answer["map"].astype(np.float32, copy=False)


def _best(question: ZeroShotInput, embedding: FloatArray) -> int | None:
    """The place of the name that fits the picture's embedding (E,) best; None when it is not finite."""
    fits = np.stack([text.embedding for text in question.texts]) @ embedding
    return int(fits.argmax()) if np.isfinite(fits).all() else None


def _pairs(questions: Sequence[ZeroShotInput], best: Sequence[int | None]) -> _Pairs:
    pairs = [(row, place) for row, question in enumerate(questions) for place in range(len(question.texts))]
    return _Pairs(
        rows=np.array([row for row, _ in pairs], np.int64),
        texts=np.stack([questions[row].texts[place].states for row, place in pairs]),
        medical=np.array([questions[row].medical for row, _ in pairs]),
        is_kept=np.array([questions[row].all_maps or place == best[row] for row, place in pairs]),
    )


def _finding(
    judged: _Judged, pairs: range, question: ZeroShotInput, best: int | None, timings_ms: dict[str, float]
) -> ZeroShotOutcome | Exception:
    """The finding of a question whose pairs are those of `judged` at `pairs`."""
    for pair in pairs:
        if pair in judged.errors:
            return judged.errors[pair]
    if best is None:
        return GraphError("vision: an embedding is not finite")
    scores: list[float] = judged.scores[pairs.start : pairs.stop].tolist()
    maps = {place: judged.maps[pair] for place, pair in enumerate(pairs) if pair in judged.maps}
    return ZeroShotOutcome(best, tuple(scores), maps, question.all_maps, timings_ms)
