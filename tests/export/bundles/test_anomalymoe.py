"""The bundle: its manifest, its dynamic batch, and that the service computes what the torch model does."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.bundles.active import expert_specs
from export.contract.manifest import LEVELS
from export.contract.provenance import LeftOut
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.inference.backends.onnx import OnnxGraph
from tests.export.conftest import Exported
from tests.training.tiny_run import DEFECTS, GRID, PRODUCTS, SIZE, WIDTH, draw
from training.anomalymoe.model.head import Head, HeadOutput
from training.anomalymoe.scoring import score_pictures

RELATIVE = 1e-4


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Good and defective pictures of both products in turn, each with its category."""
    kinds = (None, *DEFECTS)
    return [
        Picture(draw(product, seed, kind)[0], product)
        for seed, kind in enumerate(kinds)
        for product in PRODUCTS
    ]


@pytest.fixture(scope="module")
def engine(exported: Exported) -> Engine:
    return Engine(exported.bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def outcomes(engine: Engine, pictures: list[Picture]) -> list[Outcome]:
    return computed(engine, pictures)


@pytest.fixture(scope="module")
def expected(exported: Exported, pictures: list[Picture]) -> HeadOutput:
    """What the torch model says."""
    categories = [exported.checkpoint.categories[str(one.category)] for one in pictures]
    pixels = torch.from_numpy(np.stack([one.pixels for one in pictures]))
    return score_pictures(exported.checkpoint.detector, Head((SIZE, SIZE), GRID), pixels, categories)


def computed(engine: Engine, pictures: list[Picture]) -> list[Outcome]:
    results = engine.run(pictures)
    assert not [one for one in results if isinstance(one, Exception)]
    return [one for one in results if isinstance(one, Outcome)]


def largest_difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Relative to the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_experts_are_numbered_within_their_level(exported: Exported) -> None:
    found = expert_specs(exported.checkpoint.detector)
    assert [(one.level, one.index, one.column) for one in found] == [
        ("patch", 0, 0),
        ("patch", 1, 1),
        ("component", 0, 2),
        ("component", 1, 3),
        ("global", 0, 4),
    ]
    assert [one.graph for one in found][1:3] == ["expert-patch-1", "expert-component-0"]


def test_the_manifest_tells_what_was_exported(exported: Exported) -> None:
    manifest, config = exported.bundle.manifest, exported.checkpoint.config
    assert (manifest.kind, manifest.name, manifest.version) == ("anomalymoe", "tiny", "3")
    assert manifest.input == config.input
    assert manifest.top_k == 3
    assert manifest.grid == GRID
    assert manifest.map_size == (SIZE, SIZE)
    assert manifest.categories == PRODUCTS
    assert manifest.calibration.alpha == config.calibration.alpha
    assert manifest.experts == expert_specs(exported.checkpoint.detector, exported.checkpoint.categories)
    assert (manifest.format, manifest.precision, manifest.left_out) == ("onnx", "fp32", LeftOut())
    assert {graph.opset for graph in manifest.graphs.values()} == {18}
    assert all(manifest.graphs[expert.graph].macs for expert in manifest.experts)
    assert manifest.source == {"backbone": "offline", "training_steps": config.train.steps}
    assert manifest.created.tzinfo is not None


def test_categories_travel_unchanged(exported: Exported) -> None:
    for name, category in exported.bundle.categories.items():
        np.testing.assert_array_equal(category.scores, exported.checkpoint.categories[name].scores)
        np.testing.assert_array_equal(category.centres, exported.checkpoint.categories[name].centres)


def test_signatures_are_those_of_the_contract(exported: Exported) -> None:
    def signature(key: str) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        graph = exported.bundle.manifest.graphs[key]
        return {name: (one.dtype, one.shape) for name, one in (graph.inputs | graph.outputs).items()}

    assert signature("backbone") == {
        "image": ("uint8", ("B", SIZE, SIZE, 3)),
        "features": ("float32", ("B", 37, WIDTH)),
        "cls": ("float32", ("B", WIDTH)),
    }
    assert signature("router")["experts"] == ("int64", ("B", 3))
    assert signature("router")["gates"] == ("float32", ("B", 3))
    assert signature("expert-component-1") == {
        "features": ("float32", ("B", 37, WIDTH)),
        "rows": ("int64", ("b",)),
        "centres": ("float32", ("b", "M", WIDTH)),
        "valid": ("bool", ("b", "M")),
        "error": ("float32", ("b", *GRID)),
    }
    assert signature("expert-global-0").keys() == {"image", "features", "rows", "error"}
    assert signature("head") == {
        "levels": ("float32", ("B", 3, *GRID)),
        "map": ("float32", ("B", SIZE, SIZE)),
        "score": ("float32", ("B",)),
        "level_scores": ("float32", ("B", 3)),
    }


@pytest.mark.parametrize("batch", [1, 2, 7, 20])
def test_graphs_take_any_batch(exported: Exported, batch: int) -> None:
    """Exported with three pictures, two rows and four components."""

    def run(key: str, **feeds: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        return OnnxGraph(exported.bundle.graph_bytes(key), "cpu", 1, key).run(feeds)

    image = np.random.default_rng(batch).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    encoded = run("backbone", image=image)
    assert encoded["cls"].shape == (batch, WIDTH)
    assert run("router", cls=encoded["cls"])["experts"].shape == (batch, 3)
    rows = np.arange(batch, dtype=np.int64)[::-1].copy()
    centres, valid = np.zeros((batch, batch, WIDTH), np.float32), np.ones((batch, batch), np.bool_)
    inputs = {"rows": rows, "features": encoded["features"]}
    assert run("expert-patch-0", **inputs)["error"].shape == (batch, *GRID)
    assert run("expert-global-0", image=image, **inputs)["error"].shape == (batch, *GRID)
    component = run("expert-component-0", centres=centres, valid=valid, **inputs)
    assert component["error"].shape == (batch, *GRID)
    levels = np.zeros((batch, len(LEVELS), *GRID), np.float32)
    assert run("head", levels=levels)["map"].shape == (batch, SIZE, SIZE)


def test_the_service_computes_what_the_torch_model_does(
    outcomes: list[Outcome], expected: HeadOutput
) -> None:
    chosen = {(one.level, one.index) for outcome in outcomes for one in outcome.experts}
    assert len(chosen) > 3, "all pictures chose the same experts"
    found = [np.array([one.raw_score for one in outcomes], np.float32)]
    found += [np.stack([one.map for one in outcomes]), np.stack([one.level_scores for one in outcomes])]
    wanted = (expected.score, expected.map, expected.level_scores)
    for one, other in zip(found, wanted, strict=True):
        assert largest_difference(one, other.numpy()) < RELATIVE


def test_a_picture_scores_the_same_alone(
    engine: Engine, pictures: list[Picture], outcomes: list[Outcome]
) -> None:
    for picture, together in zip(pictures, outcomes, strict=True):
        alone = computed(engine, [picture])[0]
        assert alone.raw_score == pytest.approx(together.raw_score, rel=RELATIVE)
        assert largest_difference(alone.map, together.map) < RELATIVE


def test_without_a_name_each_product_is_recognised(
    engine: Engine, pictures: list[Picture], exported: Exported
) -> None:
    good = [Picture(one.pixels) for one in pictures[:2]]
    detector = exported.checkpoint.detector
    for picture, outcome in zip(good, computed(engine, good), strict=True):
        cls = detector.encode(detector.normalise(torch.from_numpy(picture.pixels[None]))).cls[0]
        nearest = max(
            exported.checkpoint.categories.values(),
            key=lambda one: float(cls @ torch.from_numpy(one.prototype)),
        )
        assert outcome.category.name == nearest.name
