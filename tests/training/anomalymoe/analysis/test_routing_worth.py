"""Experts chosen otherwise than the router does."""

import torch

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress, tiny_checkpoint
from training.anomalymoe.analysis.routing_worth import Choice, OtherRouter, routing_worth
from training.anomalymoe.evaluation.evaluate import evaluate_checkpoint
from training.anomalymoe.model.router import RouterOutput


def chosen_by(choice: Choice) -> RouterOutput:
    detector = tiny_checkpoint().detector
    often = torch.tensor([0, 9, 3, 1, 9])
    return OtherRouter(detector.router, choice, often)(torch.zeros(40, detector.encoder.cls_width))


def test_experts_are_those_of_the_product_any_or_all() -> None:
    assert (chosen_by("fixed").experts == torch.tensor([1, 2, 4])).all()
    assert len(chosen_by("random").experts.unique(dim=0)) == 4
    assert (chosen_by("all").experts == torch.arange(5)).all()
    assert (chosen_by("all").gates == 0.2).all()


def test_figures_of_each_way_and_the_router_is_left_as_it_was(fitted: Fitted) -> None:
    checkpoint = tiny_checkpoint()
    router = checkpoint.detector.router
    worth = routing_worth(checkpoint, fitted.data, quiet_progress())
    assert checkpoint.detector.router is router
    rows = evaluate_checkpoint(checkpoint, fitted.data, quiet_progress())
    assert worth["learned"] == next(row for row in reversed(rows) if row.defects == "all")
    assert len({row.metrics.pixel_auroc for row in worth.values()}) > 1
