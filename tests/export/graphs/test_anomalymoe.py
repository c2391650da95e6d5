"""The parts of a detector: what they are called, and that together they are the detector."""

import pytest
import torch
from torch import Tensor

from export.bundles.active import expert_specs
from export.contract.manifest import REQUIRED_GRAPHS
from export.graphs.anomalymoe import detector_parts, example_tensors
from export.graphs.part import Part
from tests.training.tiny_run import GRID, SIZE, WIDTH, tiny_checkpoint
from training.anomalymoe.model.detector import AnomalyMoE, Scene
from training.anomalymoe.model.head import Head

ROWS = (2, 0, 4)
EXPERTS = ("expert-patch-0", "expert-patch-1", "expert-component-0", "expert-component-1", "expert-global-0")


@pytest.fixture(scope="module")
def detector() -> AnomalyMoE:
    return tiny_checkpoint().detector


@pytest.fixture(scope="module")
def parts(detector: AnomalyMoE) -> dict[str, Part]:
    found = detector_parts(detector, Head((SIZE, SIZE), GRID), expert_specs(detector))
    return {part.key: part for part in found}


@pytest.fixture(scope="module")
def examples(detector: AnomalyMoE) -> dict[str, Tensor]:
    return example_tensors(detector, batch=5, rows=ROWS)


def feeds(part: Part, examples: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return tuple(examples[name] for name in part.inputs)


def test_parts_come_in_the_order_of_the_forward_pass(parts: dict[str, Part]) -> None:
    assert tuple(parts) == ("backbone", "router", *EXPERTS, "head")
    assert set(REQUIRED_GRAPHS["anomalymoe"]) <= set(parts)


def test_inputs_follow_the_level(parts: dict[str, Part]) -> None:
    assert parts["expert-patch-1"].inputs == ("features", "rows")
    assert parts["expert-component-0"].inputs == ("features", "rows", "centres", "valid")
    assert parts["expert-global-0"].inputs == ("image", "features", "rows")


def test_a_detector_in_training_is_cut_in_evaluation_mode(detector: AnomalyMoE) -> None:
    detector.train()
    head = Head((SIZE, SIZE), GRID).train()
    assert len(list(detector_parts(detector, head, expert_specs(detector)))) == 8
    assert not any(module.training for module in (*detector.modules(), *head.modules()))


def test_examples_have_the_shapes_of_a_batch_in_which_some_chose_the_expert(
    examples: dict[str, Tensor],
) -> None:
    assert examples["image"].dtype == torch.uint8
    assert {name: tuple(tensor.shape) for name, tensor in examples.items()} == {
        "image": (5, SIZE, SIZE, 3),
        "features": (5, 37, WIDTH),
        "cls": (5, WIDTH),
        "rows": (3,),
        "centres": (3, 4, WIDTH),
        "valid": (3, 4),
        "levels": (5, 3, *GRID),
    }
    assert not examples["valid"].all()


def test_every_batch_axis_is_dynamic(parts: dict[str, Part]) -> None:
    for part in parts.values():
        for name in (*part.inputs, *part.outputs):
            assert part.axes[name][0] in ("B", "b"), name


@torch.no_grad()
def test_backbone_and_router_are_the_detectors(
    detector: AnomalyMoE, parts: dict[str, Part], examples: dict[str, Tensor]
) -> None:
    features, cls = parts["backbone"].module(examples["image"])
    assert torch.equal(features, examples["features"])
    assert torch.equal(cls, examples["cls"])
    experts, gates = parts["router"].module(cls)
    expected = detector.router(cls)
    assert torch.equal(experts, expected.experts)
    assert torch.equal(gates, expected.gates)


@torch.no_grad()
@pytest.mark.parametrize("column", range(len(EXPERTS)))
def test_experts_see_the_rows_that_chose_them_in_that_order(
    detector: AnomalyMoE, parts: dict[str, Part], examples: dict[str, Tensor], column: int
) -> None:
    part = parts[EXPERTS[column]]
    error = part.module(*feeds(part, examples))
    assert error.shape == (len(ROWS), *GRID)
    features = examples["features"][list(ROWS)]
    scene = Scene(
        detector.normalise(examples["image"][list(ROWS)]),
        features,
        detector.component_masks(features, examples["centres"], examples["valid"]),
    )
    torch.testing.assert_close(error, detector.run_expert(column, scene).error)
