from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from export.contract.bundle import Bundle
from export.contract.decision import calibrate
from export.contract.manifest import LEVELS
from export.contract.preprocess import fit
from service.inference.anomalymoe import Engine, Outcome, Picture, UnknownCategoryError
from service.inference.backends.base import Graph, GraphError
from tests.tiny_bundle import (
    COLUMNS,
    make_tiny_bundle,
    plain_picture,
    spotted_picture,
    tiny_category,
    unknown_picture,
)


def open_engine(folder: Path, **options: object) -> Engine:
    bundle = Bundle.read(make_tiny_bundle(folder / "bundle", **options))  # pyright: ignore[reportArgumentType]
    return Engine(bundle, device="cpu", threads=1)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_engine(tmp_path)


def picture(engine: Engine, image: Image.Image, category: str | None = None) -> Picture:
    return Picture(fit(image, engine.manifest.input), category)


def only_outcomes(results: list[Outcome | Exception]) -> list[Outcome]:
    assert all(isinstance(result, Outcome) for result in results), results
    return [result for result in results if isinstance(result, Outcome)]


class CountingGraph:
    """Remembers the feeds of every run of another graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = graph.inputs
        self.device: Literal["cuda", "cpu"] = graph.device
        self.calls: list[Mapping[str, object]] = []

    def run(self, feeds):
        self.calls.append(feeds)
        return self.graph.run(feeds)

    def run_on_device(self, feeds):
        self.calls.append(feeds)
        return self.graph.run_on_device(feeds)


def count_runs(engine: Engine) -> dict[str, CountingGraph]:
    counting = {key: CountingGraph(graph) for key, graph in engine._graphs.items()}
    engine._graphs.update(counting)
    return counting


def test_plain_pictures_score_low_and_spotted_ones_high(engine: Engine):
    images = [
        plain_picture("brick"),
        plain_picture("slate"),
        spotted_picture("brick"),
        spotted_picture("slate"),
    ]
    scores = [result.raw_score for result in only_outcomes(engine.run([picture(engine, i) for i in images]))]
    assert max(scores[:2]) < 0.1
    assert min(scores[2:]) > 1


def test_spot_is_where_the_map_is_high(engine: Engine):
    [result] = only_outcomes(engine.run([picture(engine, spotted_picture("brick"))]))
    assert result.map.shape == (28, 28)
    assert result.map[:8, :8].min() > result.map[14:, 14:].max()


def test_category_is_recognised_requested_or_unknown(engine: Engine):
    results = only_outcomes(
        engine.run(
            [
                picture(engine, plain_picture("slate")),
                picture(engine, plain_picture("slate"), "brick"),
                picture(engine, unknown_picture()),
            ]
        )
    )
    assert [result.is_named for result in results] == [False, True, False]
    assert [result.distance < 1 for result in results] == [True, False, False]
    assert [result.category.name for result in results[:2]] == ["slate", "brick"]


def test_only_chosen_experts_run_and_each_once(engine: Engine):
    runs = count_runs(engine)
    bricks = [picture(engine, spotted_picture("brick", (56 + i, 42))) for i in range(3)]
    results = only_outcomes(engine.run(bricks))
    chosen = {f"expert-{expert.level}-{expert.index}" for result in results for expert in result.experts}
    assert chosen == {"expert-patch-0", "expert-component-0", "expert-global-0"}
    called = {key for key, graph in runs.items() if graph.calls}
    assert called == chosen | {"backbone", "router", "head"}
    assert all(len(graph.calls) <= 1 for graph in runs.values())


def test_experts_get_only_the_rows_that_chose_them(engine: Engine):
    runs = count_runs(engine)
    colours = ["brick", "slate", "slate", "brick"]
    engine.run([picture(engine, plain_picture(colour)) for colour in colours])
    assert np.asarray(runs["expert-patch-0"].calls[0]["rows"]).tolist() == [0, 3]
    assert np.asarray(runs["expert-patch-1"].calls[0]["rows"]).tolist() == [1, 2]


def test_sparse_pass_equals_the_dense_sum(engine: Engine):
    """All six experts on one picture, gated by hand from the router's answer."""
    [result] = only_outcomes(engine.run([picture(engine, spotted_picture("slate"))]))
    pixels = picture(engine, spotted_picture("slate")).pixels[None]
    tokens = engine._graphs["backbone"].run({"image": pixels})
    choice = engine._graphs["router"].run({"cls": tokens["cls"]})
    gates = np.zeros(len(COLUMNS))
    gates[choice["experts"][0]] = choice["gates"][0]
    category = tiny_category("slate")
    feeds = {
        "image": pixels,
        "features": tokens["features"],
        "rows": np.array([0]),
        "centres": category.centres[None],
        "valid": np.ones((1, len(category.centres)), np.bool_),
    }
    expected = np.zeros((3, 4, 4))
    for column, (level, index) in enumerate(COLUMNS):
        graph = engine._graphs[f"expert-{level}-{index}"]
        error = graph.run({name: feeds[name] for name in graph.inputs})["error"][0]
        calibrated = calibrate(error, category.error_offset[column], category.error_scale[column])
        expected[LEVELS.index(level)] += gates[column] * calibrated
    np.testing.assert_allclose(result.level_maps, expected, rtol=1e-5)


def test_a_picture_scores_the_same_alone_and_in_a_batch(engine: Engine):
    images = [spotted_picture("brick"), spotted_picture("slate"), plain_picture("brick"), unknown_picture()]
    pictures = [picture(engine, image) for image in images]
    together = only_outcomes(engine.run(pictures))
    alone = [only_outcomes(engine.run([one]))[0] for one in pictures]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.map, other.map, rtol=1e-5, atol=1e-6)
        assert one.raw_score == pytest.approx(other.raw_score, rel=1e-5, abs=1e-6)
        assert [(e.level, e.index) for e in one.experts] == [(e.level, e.index) for e in other.experts]


def test_padded_centres_do_not_change_the_smaller_category(engine: Engine):
    """Brick has two centres, slate three; asked for by name, both go through one component expert."""
    image = spotted_picture("brick")
    both = [picture(engine, image, "brick"), picture(engine, image, "slate")]
    together, alone = only_outcomes(engine.run(both))[0], only_outcomes(engine.run(both[:1]))[0]
    np.testing.assert_allclose(together.level_maps, alone.level_maps, rtol=1e-5)


def test_weights_sum_to_one_and_descend(engine: Engine):
    [result] = only_outcomes(engine.run([picture(engine, spotted_picture("brick"))]))
    weights = [expert.weight for expert in result.experts]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)


def test_timings_name_the_three_stages(engine: Engine):
    [result] = only_outcomes(engine.run([picture(engine, plain_picture("brick"))]))
    assert set(result.timings_ms) == {"backbone", "experts", "head"}
    assert all(0 < milliseconds < 5000 for milliseconds in result.timings_ms.values())


def test_unknown_category_fails_alone_and_before_computing(engine: Engine):
    runs = count_runs(engine)
    [failed] = engine.run([picture(engine, plain_picture("brick"), "granite")])
    assert isinstance(failed, UnknownCategoryError)
    assert "'granite' is not one of brick, slate" in str(failed)
    assert not runs["backbone"].calls
    mixed = engine.run([picture(engine, plain_picture("brick"), name) for name in ("granite", "brick")])
    assert isinstance(mixed[0], UnknownCategoryError)
    assert isinstance(mixed[1], Outcome)


def test_wrong_pixels_fail_alone(engine: Engine):
    wrong = Picture(np.zeros((27, 28, 3), np.uint8))
    failed, fine = engine.run([wrong, picture(engine, plain_picture("brick"))])
    assert isinstance(failed, ValueError)
    assert "(27, 28, 3)" in str(failed)
    assert isinstance(fine, Outcome)


def test_broken_expert_degrades_only_those_who_chose_it(tmp_path: Path):
    engine = open_engine(tmp_path, broken_expert="expert-global-1")
    brick, slate = engine.run([picture(engine, spotted_picture(colour)) for colour in ("brick", "slate")])
    assert isinstance(brick, Outcome)
    assert isinstance(slate, GraphError)
    assert "expert-global-1" in str(slate)
    healthy = open_engine(tmp_path / "healthy")
    [expected] = only_outcomes(healthy.run([picture(healthy, spotted_picture("brick"))]))
    np.testing.assert_allclose(brick.map, expected.map, rtol=1e-5)


def test_error_that_is_not_finite_fails_only_its_picture(engine: Engine):
    class NanGraph(CountingGraph):
        def run(self, feeds):
            return {name: np.full_like(value, np.nan) for name, value in super().run(feeds).items()}

    engine._graphs["expert-patch-0"] = NanGraph(engine._graphs["expert-patch-0"])
    brick, slate = engine.run([picture(engine, plain_picture(colour)) for colour in ("brick", "slate")])
    assert isinstance(brick, GraphError)
    assert "not finite" in str(brick)
    assert isinstance(slate, Outcome)


def test_expert_missing_from_the_bundle_is_named(engine: Engine):
    del engine._experts[0]
    [failed] = engine.run([picture(engine, plain_picture("brick"))])
    assert isinstance(failed, GraphError)
    assert "column 0" in str(failed)


def test_warm_up_runs_every_graph_with_one_and_with_a_full_batch(engine: Engine):
    runs = count_runs(engine)
    engine.warm_up(3)
    assert {key: len(graph.calls) for key, graph in runs.items()} == dict.fromkeys(runs, 2)
    rows = [np.asarray(feeds["rows"]).tolist() for feeds in runs["expert-component-1"].calls]
    assert rows == [[0], [0, 1, 2]]


def test_warm_up_finds_a_broken_expert(tmp_path: Path):
    with pytest.raises(GraphError, match="expert-patch-1"):
        open_engine(tmp_path, broken_expert="expert-patch-1").warm_up()


def test_empty_batch(engine: Engine):
    assert engine.run([]) == []
