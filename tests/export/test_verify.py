"""Verification passes on an honest bundle and names the graph of a weight that was changed."""

from copy import deepcopy
from dataclasses import replace
from math import nan

import pytest
import torch

from export.verify import BATCHES, TOLERANCE, Difference, compare
from tests.export.conftest import Exported
from training.checkpoint import Checkpoint

EXPERTS = {
    "experts.0": "expert-patch-0",
    "experts.1": "expert-patch-1",
    "experts.2": "expert-component-0",
    "experts.3": "expert-component-1",
    "experts.4": "expert-global-0",
}


def tampered(checkpoint: Checkpoint, prefix: str, share: float = 0.05) -> Checkpoint:
    """The checkpoint with the parameters under `prefix` changed by a share of their deviation."""
    detector = deepcopy(checkpoint.detector)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.startswith(f"{prefix}."):
                parameter.add_(share * parameter.std() * torch.randn(parameter.shape, generator=random))
    return replace(checkpoint, detector=detector)


def refused(exported: Exported, checkpoint: Checkpoint) -> set[str]:
    return {one.graph for one in compare(exported.bundle, checkpoint) if not one.is_accepted}


def test_an_honest_bundle_is_accepted_in_every_graph_and_batch(exported: Exported) -> None:
    differences = list(compare(exported.bundle, exported.checkpoint))
    assert all(one.is_accepted for one in differences)
    assert {(one.graph, one.batch) for one in differences} == {
        (graph, batch) for graph in exported.bundle.manifest.graphs for batch in BATCHES
    }


@pytest.mark.parametrize("prefix", ["experts.0", "experts.2", "experts.4"])
def test_a_changed_expert_is_found_and_only_that_one(exported: Exported, prefix: str) -> None:
    assert refused(exported, tampered(exported.checkpoint, prefix)) == {EXPERTS[prefix]}


def test_a_changed_router_is_found(exported: Exported) -> None:
    """By so much that other experts are chosen: equal choices with equal weights would be no difference."""
    assert refused(exported, tampered(exported.checkpoint, "router.gate", share=5.0)) == {"router"}


def test_a_changed_encoder_is_found(exported: Exported) -> None:
    assert "backbone" in refused(exported, tampered(exported.checkpoint, "encoder.blocks"))


def test_differences_within_the_tolerance_are_accepted_and_nan_never() -> None:
    assert Difference("head", 1, TOLERANCE).is_accepted
    assert not Difference("head", 1, 1.01 * TOLERANCE).is_accepted
    assert not Difference("head", 1, nan).is_accepted
