"""Components as mask files: the detector's own, of the picture's size, as evaluation reads them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training.conftest import Fitted
from tests.training.tiny_run import GRID, quiet_progress
from training.anomalymoe.checkpoint import Checkpoint, load_checkpoint
from training.anomalymoe.evaluation.evaluate import score_samples
from training.anomalymoe.evaluation.protocol import PAPER_CROP, Protocol
from training.anomalymoe.segmentation import write_components
from training.cli.main import app
from training.data.component_masks import component_masks, mask_path
from training.data.dataset import find_samples
from training.data.pictures import DataError


@pytest.fixture(scope="module")
def checkpoint(fitted: Fitted) -> Checkpoint:
    return load_checkpoint(fitted.folder)


def numbers(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        return np.asarray(mask)


def test_masks_are_the_components_that_the_detector_finds(
    checkpoint: Checkpoint, fitted: Fitted, tmp_path: Path
) -> None:
    samples = [one for one in find_samples(fitted.data / "disc") if one.split == "test"]
    command = ["segment", str(fitted.folder), "--data", str(fitted.data / "disc"), "--output", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "14 masks written" in result.output
    count = len(checkpoint.categories["disc"].centres)
    with Image.open(mask_path(tmp_path, samples[0])) as mask, Image.open(samples[0].path) as picture:
        assert mask.size == picture.size
        assert {*np.unique(np.asarray(mask))} <= {*range(1, count + 1)}
    read = component_masks(tmp_path, samples, checkpoint.config.input, GRID)
    assert (read.sum(1) == 1).all()  # each patch belongs to one component
    raw = Protocol(normalise="test-minmax")
    own = score_samples(checkpoint, samples, quiet_progress(), raw)
    given = score_samples(checkpoint, samples, quiet_progress(), replace(raw, masks=tmp_path))
    np.testing.assert_array_equal(own.level_scores[:, 0], given.level_scores[:, 0])


def test_masks_that_are_there_are_kept(checkpoint: Checkpoint, fitted: Fitted, tmp_path: Path) -> None:
    samples = find_samples(fitted.data / "disc")
    first = mask_path(tmp_path, samples[0])
    first.parent.mkdir(parents=True)
    first.write_bytes(b"mine")
    written = write_components(checkpoint, fitted.data / "disc", tmp_path, None, quiet_progress())
    assert written == len(samples) - 1
    assert first.read_bytes() == b"mine"


def test_new_centres_are_as_many_as_asked_for(checkpoint: Checkpoint, fitted: Fitted, tmp_path: Path) -> None:
    bare = replace(checkpoint, categories={})
    write_components(bare, fitted.data / "disc", tmp_path, 2, quiet_progress())
    masks = [numbers(path) for path in tmp_path.rglob("*.png")]
    assert {*np.unique(np.stack(masks))} == {1, 2}


def test_what_a_crop_leaves_out_belongs_to_no_component(
    checkpoint: Checkpoint, fitted: Fitted, tmp_path: Path
) -> None:
    spec = checkpoint.config.input.model_copy(update={"crop": PAPER_CROP})
    cropped = replace(checkpoint, config=checkpoint.config.model_copy(update={"input": spec}))
    write_components(cropped, fitted.data / "disc", tmp_path, None, quiet_progress())
    mask = numbers(next(tmp_path.rglob("*.png")))
    assert (mask[:3] == 0).all()
    assert (mask[3:-3, 3:-3] > 0).all()


def test_a_product_that_nothing_tells_of_is_named(
    checkpoint: Checkpoint, fitted: Fitted, tmp_path: Path
) -> None:
    bare = replace(checkpoint, categories={})
    (tmp_path / "ring").mkdir()
    (tmp_path / "ring" / "test").symlink_to(fitted.data / "disc" / "test")
    with pytest.raises(DataError, match=r"'ring': not in the checkpoint, and no normal training"):
        write_components(bare, tmp_path / "ring", tmp_path / "masks", None, quiet_progress())
