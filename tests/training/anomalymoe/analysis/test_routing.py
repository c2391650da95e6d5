"""Router use: shares and gates of a router whose choices are known by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import Fitted
from tests.training.tiny_run import quiet_progress, tiny_checkpoint
from training.anomalymoe.analysis.looks import known_test_samples
from training.anomalymoe.analysis.routing import RouterUse, router_use, routing_heat_maps, routing_json
from training.anomalymoe.checkpoint import Checkpoint
from training.data.pictures import DataError, Sample

EXPERTS = ("patch 0", "patch 1", "component 0", "component 1", "global 0")


@pytest.fixture
def samples(fitted: Fitted) -> list[Sample]:
    return known_test_samples(tiny_checkpoint(), fitted.data)


def decided(odds: Sequence[float]) -> Checkpoint:
    """A checkpoint whose router gives every picture these unnormalised gates."""
    checkpoint = tiny_checkpoint()
    gate = checkpoint.detector.router.gate
    assert isinstance(gate, torch.nn.Linear)
    with torch.no_grad():
        gate.weight.zero_()
        gate.bias.copy_(torch.tensor([math.log(one) for one in odds]))
    return checkpoint


def test_shares_and_gates_are_those_of_the_chosen_experts(samples: list[Sample]) -> None:
    use = router_use(decided([2, 1, 1, 3, 5]), samples, quiet_progress())
    assert use.categories == ("disc", "square", "all")
    assert use.experts == EXPERTS
    assert use.shares.tolist() == [[1, 0, 0, 1, 1]] * 3
    assert use.gates == pytest.approx(np.array([[0.2, 0, 0, 0.3, 0.5]] * 3), abs=1e-6)
    assert use.level_gates == pytest.approx(np.array([[0.2, 0.3, 0.5]] * 3), abs=1e-6)
    assert use.dead == ["patch 1", "component 0"]
    assert use.least_share == 0


def test_the_last_row_weights_categories_by_their_pictures(samples: list[Sample]) -> None:
    chosen = [one for one in samples if one.category == "disc"][:2] + [
        one for one in samples if one.category == "square"
    ]
    use = router_use(tiny_checkpoint(), chosen, quiet_progress())
    disc, square, everything = use.shares
    assert not np.array_equal(disc, square)
    assert everything == pytest.approx((2 * disc + 8 * square) / 10)
    assert use.gates[2] == pytest.approx((2 * use.gates[0] + 8 * use.gates[1]) / 10)


def test_rows_sum_to_the_chosen_experts_and_to_one(samples: list[Sample]) -> None:
    use = router_use(tiny_checkpoint(), samples, quiet_progress())
    assert use.shares.sum(1) == pytest.approx(np.full(3, 3))
    assert use.gates.sum(1) == pytest.approx(np.ones(3))
    assert use.level_gates.sum(1) == pytest.approx(np.ones(3))


@pytest.fixture
def by_hand() -> RouterUse:
    shares = np.array([[0.25, 0.75, 1.0], [0.5, 0.5, 1.0], [0.3, 0.7, 1.0]])
    gates = np.array([[0.1, 0.2, 0.7], [0.2, 0.2, 0.6], [0.15, 0.2, 0.65]])
    experts = ("patch 0", "patch 1", "global 0")
    return RouterUse(
        ("disc", "square", "all"), experts, ("patch", "patch", "global"), shares, gates, np.ones(3)
    )


def test_json_names_every_value(by_hand: RouterUse) -> None:
    content = routing_json(by_hand)
    assert content["shares"]["disc"] == {"patch 0": 0.25, "patch 1": 0.75, "global 0": 1.0}
    assert content["gates"]["square"] == {"patch 0": 0.2, "patch 1": 0.2, "global 0": 0.6}
    assert content["level_gates"]["all"] == pytest.approx({"patch": 0.35, "global": 0.65})
    assert content["dead_experts"] == []
    assert content["least_share"] == 0.3


def test_heat_maps_show_shares_gates_and_levels(by_hand: RouterUse) -> None:
    shares, gates, levels = routing_heat_maps(by_hand)
    assert shares.values is by_hand.shares
    assert gates.values is by_hand.gates
    assert list(levels.columns) == ["patch", "global"]
    assert levels.values == pytest.approx(np.array([[0.3, 0.7], [0.4, 0.6], [0.35, 0.65]]))
    assert shares.rows == gates.rows == levels.rows == by_hand.categories


def test_unknown_categories_and_missing_pictures_are_refused(fitted: Fitted, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    del checkpoint.categories["disc"]
    with pytest.raises(DataError, match=r"'disc' is not in the checkpoint, which knows square"):
        known_test_samples(checkpoint, fitted.data)
    with pytest.raises(DataError, match="no test pictures"):
        known_test_samples(checkpoint, fitted.data / "disc" / "train" / "good")
