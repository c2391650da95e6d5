"""What a bundle carries: products by name, experts by use; an absent expert is never chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from export.bundles.active import select, with_experts
from export.bundles.anomalymoe import Choice, build_bundle
from export.contract.bundle import Bundle
from export.contract.category import Category
from export.formats.forms import Form
from export.verify.anomalymoe import compare
from service.app import create_app
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.metrics import Metrics
from service.models.loading import load_models
from service.settings import Settings
from tests.training.tiny_run import draw, quiet_progress, tiny_checkpoint
from training.anomalymoe.checkpoint import Checkpoint
from training.anomalymoe.model.router import Router

COUNTS = {"disc": (6, 0, 6, 0, 6), "square": (6, 0, 2, 4, 6)}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Two products; nobody chose patch expert 1, and only squares chose component expert 1."""
    checkpoint = tiny_checkpoint()
    categories = {
        name: replace(checkpoint.categories[name], chosen=np.array(counts, np.float32))
        for name, counts in COUNTS.items()
    }
    return replace(checkpoint, categories=categories)


@pytest.fixture(scope="module")
def pruned(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """For discs alone, as TorchScript, which is made in a moment."""
    output = tmp_path_factory.mktemp("pruned") / "disc"
    return build_bundle(checkpoint, output, "disc", "1", Choice(Form("torchscript"), ("disc",)))


def columns(checkpoint: Checkpoint, names: list[str] | None = None, **options: bool) -> tuple[int, ...]:
    return select(checkpoint.detector, checkpoint.categories, names, **options).columns


def test_use_is_counted_by_calibration() -> None:
    for category in tiny_checkpoint().categories.values():
        assert category.chosen is not None
        assert category.chosen.sum() == 3 * len(category.scores)


def test_experts_that_nobody_chose_are_left_out(checkpoint: Checkpoint) -> None:
    assert columns(checkpoint) == (0, 2, 3, 4)
    assert columns(checkpoint, ["disc"]) == (0, 2, 4)
    assert columns(checkpoint, ["square"]) == (0, 2, 3, 4)
    assert columns(checkpoint, ["disc"], keep_unused=True) == (0, 1, 2, 3, 4)


def test_what_is_left_out_is_told(checkpoint: Checkpoint) -> None:
    selection = select(checkpoint.detector, checkpoint.categories, ["disc"])
    assert selection.left_out.categories == ("square",)
    absent = [(one.level, one.index, one.column) for one in selection.left_out.experts]
    assert absent == [("patch", 1, 1), ("component", 1, 3)]
    assert selection.experts[0].chosen_by == {"disc": 6}


def test_without_counts_all_experts_stay(checkpoint: Checkpoint) -> None:
    categories: dict[str, Category] = dict(checkpoint.categories)
    categories["disc"] = replace(categories["disc"], chosen=None)
    selection = select(checkpoint.detector, categories)
    assert selection.columns == (0, 1, 2, 3, 4)
    assert selection.experts[0].chosen_by == {"square": 6}


@pytest.mark.parametrize("names", [["disc", "ring"], []])
def test_unknown_products_are_refused(checkpoint: Checkpoint, names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"categories: .* not among those of the run, disc, square"):
        columns(checkpoint, names)


def test_an_absent_expert_is_never_chosen_and_the_gates_are_those_of_the_chosen(
    checkpoint: Checkpoint,
) -> None:
    cls = torch.randn(200, checkpoint.detector.encoder.width, generator=torch.Generator().manual_seed(0))
    whole = checkpoint.detector
    assert isinstance(whole.router, Router)
    everyone = whole.router(cls)
    assert {1, 3} & set(everyone.experts.unique().tolist())
    routed = with_experts(whole, (0, 2, 4)).router(cls)
    assert set(routed.experts.unique().tolist()) == {0, 2, 4}
    expected = everyone.logits[:, [0, 2, 4]].softmax(1)
    torch.testing.assert_close(routed.gates, expected)
    assert whole.router(cls).experts.equal(everyone.experts)
    assert with_experts(whole, range(5)) is whole


def test_a_level_that_must_be_chosen_from_cannot_be_empty(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="none of level global is left"):
        with_experts(checkpoint.detector, (0, 1, 2, 3))


def test_a_pruned_bundle_verifies_and_says_what_it_lacks(checkpoint: Checkpoint, pruned: Bundle) -> None:
    assert compare(pruned, checkpoint, None, quiet_progress()).complaints() == []
    manifest = pruned.manifest
    assert set(manifest.graphs) == {
        "backbone", "router", "expert-patch-0", "expert-component-0", "expert-global-0", "head"
    }  # fmt: skip
    assert manifest.categories == ("disc",)
    assert len(manifest.left_out.experts) == 2


def test_a_pruned_bundle_serves_pictures_that_would_have_chosen_others(pruned: Bundle) -> None:
    engine = Engine(pruned, device="cpu", threads=1)
    random = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3), np.uint8)
    pictures = [Picture(draw("square", seed)[0], "disc") for seed in range(8)]
    outcomes = engine.run([*pictures, *(Picture(pixels) for pixels in random)])
    assert all(isinstance(one, Outcome) for one in outcomes), outcomes


def test_the_service_tells_what_is_left_out(pruned: Bundle, tmp_path: Path) -> None:
    settings = Settings.model_validate({"bundles": str(pruned.folder), "device": "cpu", "threads": 1})
    metrics = Metrics()
    with TestClient(create_app(settings, load_models(settings, metrics), metrics)) as client:
        [model] = client.get("/models").json()["models"]
    assert (model["format"], model["precision"]) == ("torchscript", "fp32")
    assert model["left_out"]["categories"] == ["square"]
    assert [(one["level"], one["index"]) for one in model["left_out"]["experts"]] == [
        ("patch", 1),
        ("component", 1),
    ]
