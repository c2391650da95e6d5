"""Verification passes on an honest bundle and names the graph of a weight that was changed."""

from copy import deepcopy
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from export.contract.bundle import Bundle
from export.contract.manifest import InputSpec
from export.verify.accuracy import Accuracy
from export.verify.anomalymoe import compare
from export.verify.comparison import BATCHES, END_TO_END, Comparison, Difference
from tests.export.conftest import Exported
from tests.training.tiny_run import ENCODER, PRODUCTS, SIZE, quiet_progress, tiny_config
from training.anomalymoe.checkpoint import Checkpoint, build_detector
from training.anomalymoe.fit_config import with_levels
from training.anomalymoe.model.config import PatchConfig
from training.data.pictures import DataError

EXPERTS = {
    "experts.0": "expert-patch-0",
    "experts.1": "expert-patch-1",
    "experts.2": "expert-component-0",
    "experts.3": "expert-component-1",
    "experts.4": "expert-global-0",
}
TOLERANCE = 1e-4
THREE_PATCH_EXPERTS = tiny_config().detector.model_copy(
    update={"patch": PatchConfig(count=3, depth=1, heads=2)}
)


def tampered(checkpoint: Checkpoint, prefix: str, share: float = 0.05) -> Checkpoint:
    """The checkpoint with the parameters under `prefix` changed by a share of their deviation."""
    detector = deepcopy(checkpoint.detector)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.startswith(f"{prefix}."):
                parameter.add_(share * parameter.std() * torch.randn(parameter.shape, generator=random))
    return replace(checkpoint, detector=detector)


def compared(bundle: Bundle, checkpoint: Checkpoint, data: Path | None = None) -> Comparison:
    return compare(bundle, checkpoint, data, quiet_progress())


def refused(bundle: Bundle, checkpoint: Checkpoint) -> set[str]:
    """The graphs that differ too much."""
    largest = compared(bundle, checkpoint).largest()
    return {name for name, value in largest.items() if not value <= TOLERANCE} - set(END_TO_END)


def comparison(largest: float, tolerance: float | None = TOLERANCE, drop: float | None = None) -> Comparison:
    accuracy = [] if drop is None else [Accuracy("tile", 0.9, 0.9 - drop / 100)]
    return Comparison(tolerance, [Difference("head", "random", 1, largest)], accuracy)


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_an_honest_bundle_is_accepted_on_random_and_real_pictures_in_every_batch(
    exported: Exported, scripted: Bundle, data: Path, form: str
) -> None:
    bundle = exported.bundle if form == "onnx" else scripted
    result = compared(bundle, exported.checkpoint, data)
    assert result.complaints() == []
    assert {(one.subject, one.pictures, one.batch) for one in result.differences} == {
        (subject, pictures, batch)
        for subject in (*bundle.manifest.graphs, *END_TO_END)
        for pictures in ("random", "real")
        for batch in BATCHES
    }
    assert [one.category for one in result.accuracy] == list(PRODUCTS)
    assert all(abs(one.drop) < 1e-6 for one in result.accuracy)
    verified = result.verification()
    assert (verified.tolerance, verified.random, verified.real) == (TOLERANCE, 12, 12)
    assert set(verified.auroc) == set(PRODUCTS)
    assert {"torch", "onnxruntime"} <= set(verified.versions)


@pytest.mark.parametrize("prefix", ["experts.0", "experts.2", "experts.4"])
def test_a_changed_expert_is_found_and_only_that_one(
    exported: Exported, scripted: Bundle, prefix: str
) -> None:
    changed = tampered(exported.checkpoint, prefix)
    assert refused(exported.bundle, changed) == {EXPERTS[prefix]}
    assert refused(scripted, changed) == {EXPERTS[prefix]}


def test_a_changed_router_is_found(exported: Exported) -> None:
    """By so much that other experts are chosen: equal choices with equal weights would be no difference."""
    assert refused(exported.bundle, tampered(exported.checkpoint, "router.gate", share=5.0)) == {"router"}


def test_a_changed_encoder_is_found(exported: Exported) -> None:
    assert "backbone" in refused(exported.bundle, tampered(exported.checkpoint, "encoder.blocks"))


def test_another_calibration_is_found_end_to_end_alone(exported: Exported) -> None:
    categories = {
        name: replace(one, error_scale=2 * one.error_scale)
        for name, one in exported.checkpoint.categories.items()
    }
    bundle = replace(exported.bundle, categories=categories)
    complaints = compared(bundle, exported.checkpoint).complaints()
    assert complaints == ["differs by more than 0.0001 in map, score"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"map_size": (24, 24)}, r"map_size \(48, 48\) in the bundle, \(24, 24\) in the run"),
        ({"input": InputSpec(height=SIZE, width=SIZE, crop=0.5)}, r"input .*crop=1.0 .*crop=0.5"),
        ({"detector": with_levels(tiny_config(), ["patch", "component"]).detector}, r"global 0 .*; top_k 3"),
        ({"detector": THREE_PATCH_EXPERTS}, r"experts component 0 \(column 2\), .* in the bundle, patch 0"),
        (
            {"encoder": ENCODER.model_copy(update={"width": 8})},
            r"features \(37, 36\) .* \(37, 28\) in the run",
        ),
    ],
    ids=lambda value: str(*value) if isinstance(value, dict) else None,
)
def test_another_run_is_told_by_what_it_has_otherwise(
    exported: Exported, changes: dict[str, Any], says: str
) -> None:
    config = tiny_config(**changes)
    other = replace(exported.checkpoint, config=config, detector=build_detector(config).eval())
    with pytest.raises(ValueError, match=f"the bundle was made from another run: .*{says}"):
        compared(exported.bundle, other)


def test_differences_within_the_tolerance_are_accepted_and_nan_never() -> None:
    assert comparison(TOLERANCE).complaints() == []
    for wrong in (1.01 * TOLERANCE, nan, inf):
        assert comparison(wrong).complaints() == ["differs by more than 0.0001 in head"]


def test_without_a_tolerance_the_auroc_decides() -> None:
    assert comparison(0.3, None, drop=0.49).complaints() == []
    assert comparison(0.3, None, drop=-2).complaints() == []
    assert comparison(0.3, None, drop=0.51).complaints() == [
        "AUROC of tile drops by 0.51 points, 0.5 are accepted"
    ]
    assert "test pictures are needed" in comparison(0.3, None).complaints()[0]
    assert "head" in comparison(nan, None, drop=0).complaints()[0]
    assert "AUROC" in comparison(0.3, None, drop=nan).complaints()[0]


def test_test_pictures_of_one_kind_do_not_suffice(exported: Exported, data: Path, tmp_path: Path) -> None:
    (tmp_path / "disc" / "test").mkdir(parents=True)
    (tmp_path / "disc" / "test" / "good").symlink_to(data / "disc" / "test" / "good")
    with pytest.raises(DataError, match="'disc' needs good and defective test pictures"):
        compared(exported.bundle, exported.checkpoint, tmp_path)
