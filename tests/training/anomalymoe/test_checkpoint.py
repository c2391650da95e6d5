"""Checkpoints: what is written comes back, and whatever does not fit is named in one line."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.contract.category import Category
from tests.training.tiny_run import tiny_checkpoint
from training.anomalymoe.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.runs.files import CATEGORIES, CONFIG, REPORT, WEIGHTS, CheckpointError


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The checkpoint on disk."""
    target = tmp_path / "runs" / "tiny"
    save_checkpoint(
        target, checkpoint.config, checkpoint.detector, checkpoint.categories.values(), {"pictures": 12}
    )
    return target


def refusal(folder: Path) -> str:
    """Why the checkpoint is refused: one line."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert loaded.config == checkpoint.config
    assert not loaded.detector.training
    expected = checkpoint.detector.state_dict()
    assert loaded.detector.state_dict().keys() == expected.keys()
    for name, tensor in loaded.detector.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert loaded.categories.keys() == checkpoint.categories.keys()
    for name, category in loaded.categories.items():
        for field in fields(Category):
            one, other = (getattr(each, field.name) for each in (category, checkpoint.categories[name]))
            if field.name == "name":
                assert one == other
            else:
                np.testing.assert_array_equal(np.float32(one), np.float32(other))


def test_only_finished_files_are_left(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, CATEGORIES, REPORT}
    assert json.loads((folder / REPORT).read_text()) == {"pictures": 12}


def test_saving_again_replaces_the_former_run(checkpoint: Checkpoint, folder: Path) -> None:
    one = checkpoint.categories["disc"]
    save_checkpoint(folder, checkpoint.config, checkpoint.detector, [one], {"pictures": 6})
    assert list(load_checkpoint(folder).categories) == ["disc"]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, CATEGORIES])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, CATEGORIES])
def test_a_file_cut_short_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    assert str(folder / name) in refusal(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["router.gate.weight"]
    save_file(tensors, folder / WEIGHTS)
    assert "router.gate.weight" in refusal(folder)


def test_a_tensor_too_many_is_named(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS) | {"left.over": torch.zeros(1)}, folder / WEIGHTS)
    assert "left.over" in refusal(folder)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS) | {"router.gate.bias": torch.zeros(2)}, folder / WEIGHTS)
    assert "router.gate.bias" in refusal(folder)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("train", "steps", 0), ("train", "step", 5), ("calibration", "alpha", 2), ("input", "height", "tall")],
)
def test_a_wrong_field_is_named_with_its_value(folder: Path, section: str, field: str, value: object) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    settings[section][field] = value
    (folder / CONFIG).write_text(json.dumps(settings))
    reason = refusal(folder)
    assert f"{section}.{field}" in reason
    assert repr(value) in reason


def test_a_missing_category_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / CATEGORIES)
    del tensors["disc/peaks"]
    save_file(tensors, folder / CATEGORIES)
    assert "disc/peaks" in refusal(folder)
