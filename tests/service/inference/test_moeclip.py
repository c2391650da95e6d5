"""The engine against numpy, one picture or many, few names or many; what fails, fails alone."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract.bundle import Bundle
from export.contract.preprocess import Pixels, fit
from service.inference import moeclip as engine_module
from service.inference.backends.base import GraphError
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput, ZeroShotOutcome
from service.inference.text_tower import ClassText
from tests.service.conftest import picture
from tests.service.inference.test_anomalymoe import CountingGraph
from tests.tiny_zero_shot_bundle import GRID, PATCH, SIZE

NAMES = ("brick", "slate", "window", "damaged brick")


@pytest.fixture
def engine(zero_shot_folder: Path) -> ZeroShotEngine:
    return ZeroShotEngine(Bundle.read(zero_shot_folder), device="cpu", threads=1)


def question(
    engine: ZeroShotEngine,
    image: Image.Image,
    *names: str,
    medical: bool = False,
    all_maps: bool = False,
) -> ZeroShotInput:
    texts = [text for text in engine.tower.run(names) if isinstance(text, ClassText)]
    assert len(texts) == len(names)
    return ZeroShotInput(fit(image, engine.manifest.input), tuple(texts), medical, all_maps)


def only_findings(results: list[ZeroShotOutcome | Exception]) -> list[ZeroShotOutcome]:
    assert all(isinstance(result, ZeroShotOutcome) for result in results), results
    return [result for result in results if isinstance(result, ZeroShotOutcome)]


def count_runs(engine: ZeroShotEngine) -> dict[str, CountingGraph]:
    counting = {key: CountingGraph(graph) for key, graph in engine._graphs.items()}
    engine._graphs.update(counting)
    return counting


def unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def seen_by_hand(pixels: Pixels) -> NDArray[np.floating]:
    """Tokens (h, w, E): how red, how blue and, doubled, how green each patch is."""
    patches = (pixels / 255).reshape(GRID, PATCH, GRID, PATCH, 3).mean(axis=(1, 3))
    return unit(np.stack([patches[..., 0], patches[..., 2], 2 * patches[..., 1]], axis=-1))


def map_by_hand(
    tokens: NDArray[np.floating], text: ClassText, size: int, sigma: float
) -> NDArray[np.floating]:
    """The map (Hm, Wm): logits smoothed with reflection at the border, enlarged with aligned corners."""
    margin = 100 * (tokens @ text.states[1] - tokens @ text.states[0])
    half = size // 2
    line = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    padded = np.pad(margin, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    smooth = np.einsum("yxij,i,j->yx", windows, line, line) / line.sum() ** 2
    places = np.linspace(0, GRID - 1, SIZE)
    wide = np.stack([np.interp(places, np.arange(GRID), row) for row in smooth])
    large = np.stack([np.interp(places, np.arange(GRID), column) for column in wide.T]).T
    return 1 / (1 + np.exp(-large))


@pytest.mark.parametrize(("medical", "size", "sigma"), [(False, 7, 1.0), (True, 9, 1.5)])
def test_maps_scores_and_best_are_those_of_numpy(
    engine: ZeroShotEngine, medical: bool, size: int, sigma: float
) -> None:
    asked = question(engine, picture("brick", spotted=True), *NAMES, medical=medical, all_maps=True)
    (found,) = only_findings(engine.run([asked]))
    tokens = seen_by_hand(asked.pixels)
    summary = unit(tokens.max(axis=(0, 1)))
    for place, text in enumerate(asked.texts):
        wanted = map_by_hand(tokens, text, size, sigma)
        np.testing.assert_allclose(found.maps[place], wanted, atol=2e-4)
        likeness = np.exp(100 * (text.states @ summary))
        probability = likeness[1] / likeness.sum()
        score = wanted.max() if medical else (wanted.max() + probability) / 2
        assert found.scores[place] == pytest.approx(score, abs=2e-4)
    assert found.best == 0
    assert found.has_all_maps


def test_spot_is_seen_where_it_is(engine: ZeroShotEngine) -> None:
    plain, spotted = (question(engine, picture("brick", spotted=spot), "brick") for spot in (False, True))
    normal, anomalous = only_findings(engine.run([plain, spotted]))
    assert normal.scores[0] < 0.5 < anomalous.scores[0]
    assert anomalous.maps[0][12:18, 12:18].min() > 0.5 > anomalous.maps[0][32:, 32:].max()


def test_best_name_is_the_one_that_looks_most_like_the_picture(engine: ZeroShotEngine) -> None:
    red = question(engine, picture("brick"), "slate", "brick")
    blue = question(engine, picture("slate"), "slate", "brick")
    assert [found.best for found in only_findings(engine.run([red, blue]))] == [1, 0]


def test_maps_other_than_the_best_are_kept_only_when_wanted(engine: ZeroShotEngine) -> None:
    few = question(engine, picture("brick"), "slate", "brick")
    many = question(engine, picture("brick"), "slate", "brick", all_maps=True)
    first, second = only_findings(engine.run([few, many]))
    assert set(first.maps) == {1}
    assert set(second.maps) == {0, 1}
    np.testing.assert_array_equal(first.maps[1], second.maps[1])


def test_mixed_batch_gives_each_its_own_answer(
    engine: ZeroShotEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different pictures, numbers of names and domains, with head runs that begin and end anywhere."""
    questions = [
        question(engine, picture("brick", spotted=True), *NAMES[:3], all_maps=True),
        question(engine, picture("slate"), "slate"),
        question(engine, picture("slate", spotted=True), *NAMES, medical=True, all_maps=True),
        question(engine, picture("brick"), "window", "brick"),
    ]
    alone = [only_findings(engine.run([one]))[0] for one in questions]
    monkeypatch.setattr(engine_module, "MAX_ROWS", 4)
    runs = count_runs(engine)
    together = only_findings(engine.run(questions))
    assert [np.asarray(feeds["rows"]).tolist() for feeds in runs["head"].calls] == [
        [0, 0, 0, 1],
        [2, 2, 2, 2],
        [3, 3],
    ]
    assert len(runs["vision"].calls) == 1
    for one, other in zip(alone, together, strict=True):
        assert one.best == other.best
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert set(one.maps) == set(other.maps)
        for place, values in one.maps.items():
            np.testing.assert_allclose(values, other.maps[place], atol=1e-5)


def test_tokens_stay_on_the_device(engine: ZeroShotEngine) -> None:
    runs = count_runs(engine)
    engine.run([question(engine, picture("brick"), "brick")])
    fed = runs["head"].calls[0]
    assert not isinstance(fed["tokens"], np.ndarray)
    assert not isinstance(fed["summary"], np.ndarray)


def test_wrong_pixels_or_texts_fail_alone_and_before_computing(engine: ZeroShotEngine) -> None:
    fine = question(engine, picture("brick"), "brick")
    wrong = ZeroShotInput(np.zeros((SIZE, SIZE + 1, 3), np.uint8), fine.texts)
    nameless = ZeroShotInput(fine.pixels, ())
    wide = ClassText(np.zeros((2, 4), np.float32), np.zeros(4, np.float32))
    foreign = ZeroShotInput(fine.pixels, (*fine.texts, wide))
    runs = count_runs(engine)
    *failed, found = engine.run([wrong, nameless, foreign, fine])
    assert [str(error).partition(":")[0] for error in failed] == ["pixels", "texts", "texts"]
    assert all(isinstance(error, ValueError) for error in failed)
    assert isinstance(found, ZeroShotOutcome)
    assert np.asarray(runs["vision"].calls[0]["image"]).shape[0] == 1


def test_head_that_fails_on_some_rows_fails_only_their_pictures(
    engine: ZeroShotEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(CountingGraph):
        def run(self, feeds):
            if 1 in np.asarray(feeds["rows"]):
                raise GraphError("head: out of memory")
            return super().run(feeds)

    monkeypatch.setattr(engine_module, "MAX_ROWS", 2)
    engine._graphs["head"] = Failing(engine._graphs["head"])
    questions = [question(engine, picture("brick"), "brick", "slate") for _ in range(3)]
    first, second, third = engine.run(questions)
    assert isinstance(first, ZeroShotOutcome)
    assert isinstance(second, GraphError)
    assert isinstance(third, ZeroShotOutcome)


@pytest.mark.parametrize("output", ["map", "score"])
def test_value_that_is_not_finite_fails_only_its_picture(engine: ZeroShotEngine, output: str) -> None:
    class NanGraph(CountingGraph):
        def run(self, feeds):
            answer = super().run(feeds)
            answer[output][np.asarray(feeds["rows"]) == 0] = np.nan
            return answer

    engine._graphs["head"] = NanGraph(engine._graphs["head"])
    failed, fine = engine.run([question(engine, picture(colour), "brick") for colour in ("brick", "slate")])
    assert isinstance(failed, GraphError)
    assert "not finite" in str(failed)
    assert isinstance(fine, ZeroShotOutcome)


def test_embedding_that_is_not_finite_fails_only_its_picture(engine: ZeroShotEngine) -> None:
    class Nan:
        def __init__(self, values: NDArray[np.generic]) -> None:
            self.values = values.copy()
            self.values[0] = np.nan

        def numpy(self) -> NDArray[np.generic]:
            return self.values

    class NanGraph(CountingGraph):
        def run_on_device(self, feeds):
            seen = super().run_on_device(feeds)
            return {**seen, "embedding": Nan(seen["embedding"].numpy())}

    engine._graphs["vision"] = NanGraph(engine._graphs["vision"])
    failed, fine = engine.run([question(engine, picture(colour), "brick") for colour in ("brick", "slate")])
    assert isinstance(failed, GraphError)
    assert "embedding is not finite" in str(failed)
    assert isinstance(fine, ZeroShotOutcome)


def test_head_with_another_shape_is_named(engine: ZeroShotEngine) -> None:
    class Small(CountingGraph):
        def run(self, feeds):
            answer = super().run(feeds)
            return {**answer, "map": answer["map"][:, ::2]}

    engine._graphs["head"] = Small(engine._graphs["head"])
    (failed,) = engine.run([question(engine, picture("brick"), "brick")])
    assert isinstance(failed, GraphError)
    assert "head: map has shape (1, 20, 40)" in str(failed)


def test_timings_name_the_two_stages(engine: ZeroShotEngine) -> None:
    (found,) = only_findings(engine.run([question(engine, picture("brick"), "brick")]))
    assert set(found.timings_ms) == {"vision", "head"}
    assert all(milliseconds > 0 for milliseconds in found.timings_ms.values())


def test_warm_up_runs_every_graph_with_one_and_with_a_full_batch(engine: ZeroShotEngine) -> None:
    runs = count_runs(engine)
    engine.tower.graph = text = CountingGraph(engine.tower.graph)
    engine.warm_up(3)
    assert [np.asarray(feeds["image"]).shape[0] for feeds in runs["vision"].calls] == [1, 3]
    assert [np.asarray(feeds["rows"]).tolist() for feeds in runs["head"].calls] == [[0], [0, 1, 2]]
    assert len(text.calls) == 1


def test_warm_up_finds_a_broken_graph(engine: ZeroShotEngine) -> None:
    engine._graphs["head"] = engine._graphs["vision"]
    with pytest.raises(GraphError, match="vision"):
        engine.warm_up()


def test_empty_batch(engine: ZeroShotEngine) -> None:
    assert engine.run([]) == []
