"""The record of a run: means over the steps since the last, curves for TensorBoard, and going on."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from training.anomalymoe.losses.objective import Losses, Outcome, Usage, expert_names
from training.runs import record as record_module
from training.runs.record import Record

EXPERTS = ("patch-0", "global-0")


def values(loss: float) -> dict[str, Tensor]:
    losses = Losses(*(torch.tensor(loss + number) for number in range(len(Losses._fields))))
    gate = torch.tensor([0.25, 0.75])
    usage = Usage(torch.tensor([0.5, 1.0]), gate, torch.tensor(1.5), torch.tensor(0.5))
    return Outcome(losses, usage).values(EXPERTS)


@pytest.fixture(autouse=True)
def _means_of_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "LOG_EVERY", 2)


def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each curve."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_losses_are_means_of_the_steps_since_the_last() -> None:
    record = Record(None, steps=5)
    assert [record.add(step, values(step)) for step in range(1, 6)] == [False, True, False, True, True]
    assert [row["step"] for row in record.losses] == [2, 4, 5]
    assert [row["reconstruction"] for row in record.losses] == [1.5, 3.5, 5]
    assert [row["total"] for row in record.losses] == [6.5, 8.5, 10]
    assert (record.latest["loss/total"], record.latest["passes/extra"]) == (10, 0.5)


def test_curves_hold_every_term_and_every_expert(tmp_path: Path) -> None:
    record = Record(tmp_path / "curves", steps=2)
    for step in (1, 2):
        record.add(step, values(step))
    record.close()
    curves = drawn(tmp_path / "curves")
    assert {name for name in curves if name.startswith("loss/")} == {f"loss/{one}" for one in Losses._fields}
    assert curves["loss/reconstruction"] == [(2, 1.5)]
    assert curves["share/patch-0"] == [(2, 0.5)]
    assert curves["gate/global-0"] == [(2, 0.75)]
    assert curves["passes/chosen"] == [(2, 1.5)]
    assert curves["passes/extra"] == [(2, 0.5)]


def test_a_record_goes_on_from_the_middle_of_a_mean(tmp_path: Path) -> None:
    first = Record(tmp_path / "curves", steps=6)
    for step in (1, 2, 3):
        first.add(step, values(step))
    state = first.state_dict()
    second = Record(tmp_path / "curves", steps=6)
    second.load_state_dict({"losses": list(state["losses"]), "recent": list(state["recent"])})
    for step in (4, 5, 6):
        first.add(step, values(100))
        second.add(step, values(step))
    for record in (first, second):
        record.close()
    assert [row["reconstruction"] for row in second.losses] == [1.5, 3.5, 5.5]


def test_experts_are_named_by_level_and_number() -> None:
    assert expert_names(("patch", "patch", "global")) == ["patch-0", "patch-1", "global-0"]
