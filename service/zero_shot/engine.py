"""The zero-shot forward pass: vision once a batch, then head on every (picture, class name) pair.

Shape letters: B pictures, r rows (pairs), k class names of one picture, E embedding width, Hm Wm map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import numpy as np

from export.contract.bundle import Bundle
from export.contract.category import FloatArray
from export.contract.preprocess import Pixels
from service.backends.base import Array, DeviceTensor, Graph, GraphError
from service.backends.onnx import Device, OnnxGraph
from service.zero_shot.text_tower import ClassText, TextTower

MAX_ROWS = 32  # pairs in one run of the head: bounds its memory, whatever the batch asks

GRAPHS = ("vision", "head")


@dataclass(frozen=True, eq=False)
class Question:
    """uint8 pixels (H, W, 3) at model size, and the texts of the class names to compare them with.

    medical: the post-processing of medical pictures. all_maps: whether maps other than the best name's
    are wanted.
    """

    pixels: Pixels
    texts: tuple[ClassText, ...]
    medical: bool = False
    all_maps: bool = False


@dataclass(frozen=True, eq=False)
class Finding:
    """What the graphs say about one picture.

    best: the place of the name that fits the picture best. scores: 0..1, one a name. maps: (Hm, Wm) in
    0..1 by the place of their name, all of them or the best one's. timings_ms: of the picture's batch.
    """

    best: int
    scores: tuple[float, ...]
    maps: Mapping[int, FloatArray]
    has_all_maps: bool
    timings_ms: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Judged:
    """All pairs of a batch, picture by picture: scores (r,), maps (r, Hm, Wm); errors by row."""

    scores: FloatArray
    maps: FloatArray
    errors: dict[int, GraphError]


class ZeroShotEngine:
    """Computes batches of questions with the vision and head graphs of one bundle.

    `tower` encodes class names for it. Several threads may use both at once.
    device, threads: see `OnnxGraph`. max_batch: the largest batch that `warm_up` tries.
    Raises BundleError or GraphError when the bundle's tokenizer or graphs cannot be loaded.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device = "auto", threads: int = 0, max_batch: int = 16
    ) -> None:
        self.manifest = bundle.manifest
        self._width = bundle.manifest.graphs["vision"].outputs["embedding"].shape[-1]
        self._max_batch = max_batch
        self.tower = TextTower(bundle, device=device, threads=threads)
        self._graphs: dict[str, Graph] = {
            key: OnnxGraph(bundle.graph_bytes(key), device, threads, key) for key in GRAPHS
        }

    def run(self, questions: Sequence[Question]) -> list[Finding | Exception]:
        """Compute a batch: one finding or one exception per question, in order.

        A malformed question, or one whose rows the head failed on, gets an exception in its place; the
        others are unaffected. Raises GraphError when vision fails.
        """
        checked = [self._complaint(question) or question for question in questions]
        findings = iter(self._run([item for item in checked if isinstance(item, Question)]))
        return [next(findings) if isinstance(item, Question) else item for item in checked]

    def warm_up(self) -> None:
        """Run every graph, with one picture and with a full batch. Raises GraphError when one fails."""
        samples = self.samples(self._max_batch)
        for size in sorted({1, self._max_batch}):
            for result in self.run(samples[:size]):
                if isinstance(result, Exception):
                    raise result

    def samples(self, count: int) -> list[Question]:
        """Noise with one class name. Raises GraphError when the text tower fails."""
        text = self.tower.warm_up()
        size = (self.manifest.input.height, self.manifest.input.width, 3)
        rng = np.random.default_rng(0)
        return [Question(rng.integers(0, 256, size, np.uint8), (text,)) for _ in range(count)]

    def _complaint(self, question: Question) -> ValueError | None:
        wanted = (self.manifest.input.height, self.manifest.input.width, 3)
        pixels = question.pixels
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            return ValueError(f"pixels: {pixels.dtype} {pixels.shape}, not uint8 {wanted}")
        shapes = [text.states.shape for text in question.texts]
        if not shapes or set(shapes) != {(2, self._width)}:
            return ValueError(f"texts: {shapes}, not at least one of (2, {self._width})")
        return None

    def _run(self, questions: Sequence[Question]) -> list[Finding | Exception]:
        if not questions:
            return []
        clock = [perf_counter()]
        seen = self._graphs["vision"].run_on_device(
            {"image": np.stack([question.pixels for question in questions])}
        )
        embedding = seen["embedding"].numpy().astype(np.float32)
        clock.append(perf_counter())
        judged = self._judge(seen, questions)
        clock.append(perf_counter())
        vision_s, head_s = (end - start for start, end in pairwise(clock))
        timings_ms = {"vision": vision_s * 1000, "head": head_s * 1000}
        ends = np.cumsum([len(question.texts) for question in questions]).tolist()
        return [
            _finding(question, unit, judged, end, timings_ms)
            for question, unit, end in zip(questions, embedding, ends, strict=True)
        ]

    def _judge(self, seen: Mapping[str, DeviceTensor], questions: Sequence[Question]) -> _Judged:
        """Run the head on all pairs, some rows at a time; what fails, fails for those rows."""
        pairs = [(place, question) for place, question in enumerate(questions) for _ in question.texts]
        texts = np.stack([text.states for question in questions for text in question.texts])
        rows = np.array([place for place, _ in pairs], np.int64)
        medical = np.array([question.medical for _, question in pairs], np.bool_)
        scores = np.zeros(len(pairs), np.float32)
        maps = np.zeros((len(pairs), *self.manifest.map_size), np.float32)
        errors: dict[int, GraphError] = {}
        for start in range(0, len(pairs), MAX_ROWS):
            part = slice(start, start + MAX_ROWS)
            pair_feeds = {"rows": rows[part], "text": texts[part], "medical": medical[part]}
            try:
                scores[part], maps[part] = self._head(seen, pair_feeds)
            except GraphError as error:
                errors.update(dict.fromkeys(range(len(pairs))[part], error))
        return _Judged(scores, maps, errors)

    def _head(
        self, seen: Mapping[str, DeviceTensor], pair_feeds: Mapping[str, Array]
    ) -> tuple[FloatArray, FloatArray]:
        """Scores (r,) and maps (r, Hm, Wm) of some pairs."""
        feeds = {"tokens": seen["tokens"], "summary": seen["summary"], **pair_feeds}
        answer = self._graphs["head"].run(feeds)
        rows = len(pair_feeds["rows"])
        for name, wanted in (("score", (rows,)), ("map", (rows, *self.manifest.map_size))):
            if answer[name].shape != wanted:
                raise GraphError(f"head: {name} has shape {answer[name].shape}, not {wanted}")
        return answer["score"].astype(np.float32), answer["map"].astype(np.float32)


def _finding(
    question: Question, embedding: FloatArray, judged: _Judged, end: int, timings_ms: dict[str, float]
) -> Finding | Exception:
    """The finding of the question whose rows end before `end`; embedding (E,) of its picture."""
    rows = range(end - len(question.texts), end)
    for row in rows:
        if row in judged.errors:
            return judged.errors[row]
    fits = np.stack([text.embedding for text in question.texts]) @ embedding
    part = slice(rows.start, rows.stop)
    if not (np.isfinite(fits).all() and np.isfinite(judged.scores[part]).all()):
        return GraphError("vision, head: an embedding or a score is not finite")
    if not np.isfinite(judged.maps[part]).all():
        return GraphError("head: a map is not finite")
    best = int(fits.argmax())
    wanted = range(len(rows)) if question.all_maps else (best,)
    maps = {place: judged.maps[rows.start + place].copy() for place in wanted}
    return Finding(best, tuple(judged.scores[part].tolist()), maps, question.all_maps, timings_ms)
