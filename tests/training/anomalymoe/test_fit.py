"""A whole run: what it writes, which pictures it uses for what, and when the backbone is trained again."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from export.contract.category import Category
from export.contract.manifest import InputSpec
from tests.training.conftest import Fitted
from tests.training.tiny_run import (
    ENCODER,
    GRID,
    PRODUCTS,
    SIZE,
    Pictures,
    draw,
    quiet_progress,
    tiny_config,
    write_data,
)
from training.anomalymoe import fit as fit_module
from training.anomalymoe.calibration.calibrate import calibrate
from training.anomalymoe.calibration.knowledge import learn_product
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit import BACKBONE, BACKBONE_KEY, fit
from training.anomalymoe.fit_config import CalibrationConfig, FitConfig, TrainConfig
from training.anomalymoe.model.config import AnomalyMoEConfig, GlobalConfig, SubspaceConfig
from training.anomalymoe.model.head import Head
from training.backbones.conv import ConvEncoderConfig
from training.backbones.offline.pretext import PretextConfig
from training.data.dataset import find_samples, split_holdout
from training.data.pictures import DataError, Sample, load_picture
from training.runs.files import REPORT, WEIGHTS


class RetrainedError(Exception):
    """Raised in place of training a backbone."""


@pytest.fixture
def rerun(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fitted:
    """A copy of the run in which training the backbone raises RetrainedError."""

    def refuse(*_: object) -> None:
        raise RetrainedError

    monkeypatch.setattr(fit_module, "train_backbone", refuse)
    shutil.copytree(fitted.folder, tmp_path / "run")
    shutil.copytree(fitted.data, tmp_path / "data")
    return Fitted(tmp_path / "data", tmp_path / "run", fitted.categories)


def fit_again(run: Fitted, config: FitConfig) -> dict[str, Category]:
    return fit(run.data, run.folder, config, None, quiet_progress())


def report(run: Fitted) -> dict[str, Any]:
    return json.loads((run.folder / REPORT).read_text())


def holdout(run: Fitted) -> tuple[list[Sample], list[Sample]]:
    train = [one for one in find_samples(run.data) if one.split == "train"]
    return split_holdout(train, tiny_config().calibration.holdout)


def test_each_product_becomes_a_category(fitted: Fitted) -> None:
    assert tuple(fitted.categories) == PRODUCTS
    loaded = load_checkpoint(fitted.folder)
    assert loaded.config == tiny_config()
    for name, category in fitted.categories.items():
        assert len(category.centres) == tiny_config().calibration.components
        np.testing.assert_array_equal(loaded.categories[name].scores, category.scores)


def test_the_report_counts_pictures_and_keeps_the_progress(fitted: Fitted) -> None:
    kept, held_out = holdout(fitted)
    found = report(fitted)
    assert (found["pictures"], found["held_out"]) == (len(kept), len(held_out))
    assert found["pictures"] + found["held_out"] == 12
    assert [check["step"] for check in found["backbone_checks"]] == [2, 4, 6, 8]
    assert all(0 <= check["auroc"] <= 1 for check in found["backbone_checks"])
    assert [entry["step"] for entry in found["losses"]] == [12]
    assert found["losses"][0]["total"] > 0


def test_the_frozen_backbone_stays_as_it_was_trained(fitted: Fitted) -> None:
    """The statistics of its batch norms too, when the products are learnt."""
    backbone, weights = load_file(fitted.folder / BACKBONE), load_file(fitted.folder / WEIGHTS)
    assert any("running_mean" in name for name in backbone)
    for name, tensor in backbone.items():
        assert torch.equal(weights[f"encoder.{name}"], tensor), name


def test_thresholds_are_the_scores_of_held_out_pictures_alone(fitted: Fitted) -> None:
    kept, held_out = holdout(fitted)
    assert not set(kept) & set(held_out)
    checkpoint = load_checkpoint(fitted.folder)
    config = checkpoint.config

    def pixels(samples: Sequence[Sample], name: str) -> Pictures:
        return np.stack([load_picture(one.path, config.input) for one in samples if one.category == name])

    for name, category in checkpoint.categories.items():
        known = learn_product(checkpoint.detector, pixels(kept, name), config.calibration.components)
        head = Head((SIZE, SIZE), GRID)
        again = calibrate(checkpoint.detector, head, name, known, pixels(held_out, name))
        np.testing.assert_allclose(category.scores, again.scores, rtol=1e-4, atol=1e-5)


def test_test_pictures_play_no_part(rerun: Fitted) -> None:
    for product in PRODUCTS:
        shutil.rmtree(rerun.data / product / "test")
    for name, category in fit_again(rerun, tiny_config()).items():
        np.testing.assert_array_equal(category.scores, rerun.categories[name].scores)


def test_a_backbone_with_the_same_settings_and_pictures_is_used_again(rerun: Fitted) -> None:
    before = (rerun.folder / BACKBONE).read_bytes()
    categories = fit_again(rerun, tiny_config())
    assert report(rerun)["backbone_checks"] == []
    assert (rerun.folder / BACKBONE).read_bytes() == before
    for name, category in categories.items():
        np.testing.assert_array_equal(category.scores, rerun.categories[name].scores)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": TrainConfig(steps=1, batch_size=2)},
        {"calibration": CalibrationConfig(holdout=0.3, components=2, alpha=0.1)},
        {"map_size": (24, 24)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_after_the_backbone_leave_it(rerun: Fitted, changes: dict[str, Any]) -> None:
    one_step = {"train": TrainConfig(steps=1, batch_size=2)}
    fit_again(rerun, tiny_config(**one_step | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pretext": PretextConfig(steps=8, batch_size=4, checks=4, seed=1)},
        {"encoder": ENCODER.model_copy(update={"fused_blocks": (1,)})},
        {"calibration": CalibrationConfig(holdout=0.6, components=3)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_backbone_of_other_settings_is_trained_again(rerun: Fitted, changes: dict[str, Any]) -> None:
    with pytest.raises(RetrainedError):
        fit_again(rerun, tiny_config(**changes))


def test_a_new_picture_trains_the_backbone_again(rerun: Fitted) -> None:
    Image.fromarray(draw("disc", 90)[0]).save(rerun.data / "disc" / "train" / "good" / "new.png")
    with pytest.raises(RetrainedError):
        fit_again(rerun, tiny_config())


def test_a_backbone_is_not_used_under_the_key_of_a_former_one(
    rerun: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the weights and before their key, the next run starts with the backbone."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.undo()
    monkeypatch.setattr(fit_module, "write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_again(rerun, tiny_config(pretext=PretextConfig(steps=1, batch_size=2, checks=1)))
    assert not (rerun.folder / BACKBONE_KEY).exists()


def test_with_nothing_held_out_every_picture_trains_and_calibrates(fitted: Fitted, tmp_path: Path) -> None:
    """Each is scored by subspaces that were fitted without it: those that know it find it more normal."""
    config = tiny_config(
        calibration=CalibrationConfig(holdout=0, components=3), train=TrainConfig(steps=1, batch_size=2)
    )
    closed = {"global_": GlobalConfig(count=1, subspace=SubspaceConfig(code=4))}
    detector = AnomalyMoEConfig.model_validate(config.detector.model_dump() | closed)
    config = config.model_copy(update={"detector": detector})
    weights = fitted.folder / BACKBONE
    categories = fit(fitted.data, tmp_path / "run", config, weights, quiet_progress())
    found = report(Fitted(fitted.data, tmp_path / "run", categories))
    assert (found["pictures"], found["held_out"]) == (12, 0)
    checkpoint = load_checkpoint(tmp_path / "run")
    for name in PRODUCTS:
        category = categories[name]
        assert len(category.scores) == 6
        pixels = np.stack([draw(name, seed)[0] for seed in range(6)])
        known = learn_product(checkpoint.detector, pixels, 3)
        own = calibrate(checkpoint.detector, Head((SIZE, SIZE), GRID), name, known, pixels)
        subspace = checkpoint.detector.levels.index("global")
        assert (category.error_offset[subspace] > own.error_offset[subspace]).mean() > 0.9


def test_stages_are_standardised_on_the_training_pictures(fitted: Fitted, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = ConvEncoderConfig(model="test_efficientnet", image_size=(64, 64), grid=(8, 8))
    save_file(timm.create_model(encoder.model).state_dict(), tmp_path / "weights.safetensors")
    config = tiny_config(
        backbone="efficientnet-lite0",
        encoder=encoder,
        input=InputSpec(height=64, width=64),
        pretext=None,
        train=TrainConfig(steps=1, batch_size=2),
    )
    fit(fitted.data, tmp_path / "run", config, tmp_path / "weights.safetensors", quiet_progress())
    detector = load_checkpoint(tmp_path / "run").detector
    kept, _ = holdout(fitted)
    pixels = np.stack([load_picture(one.path, config.input) for one in kept])
    seen = detector.encode(detector.normalise(torch.from_numpy(pixels)))
    for rows in (seen.features.flatten(0, 1), seen.cls):
        torch.testing.assert_close(rows.mean(0), torch.full_like(rows[0], encoder.offset), rtol=0, atol=1e-3)
    assert seen.features.flatten(0, 1).std(0).median() > 0.5


@pytest.mark.parametrize("shade", [0, 200, None], ids=["black", "grey", "real"])
def test_pictures_that_are_all_the_same_are_refused_before_training(
    rerun: Fitted, shade: int | None, tmp_path: Path
) -> None:
    """Also of one product among others; RetrainedError would say that training began."""
    picture = draw("disc", 0)[0] if shade is None else np.full((SIZE, SIZE, 3), shade, np.uint8)
    for path in (rerun.data / "disc" / "train" / "good").iterdir():
        Image.fromarray(picture).save(path)
    with pytest.raises(DataError, match="category 'disc': its 6 normal pictures are all the same"):
        fit(rerun.data, tmp_path / "other", tiny_config(), None, quiet_progress())


def test_more_components_than_patches_are_refused_before_training(rerun: Fitted) -> None:
    config = tiny_config(calibration=CalibrationConfig(holdout=0.3, components=999))
    with pytest.raises(
        DataError, match=r"category 'disc': calibration.components must be at most .* got 999"
    ):
        fit_again(rerun, config)


def test_no_normal_pictures_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=0, test=1)
    with pytest.raises(DataError, match=r"data: no normal training pictures"):
        fit(data, tmp_path / "run", tiny_config(), None, quiet_progress())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("side", "is_told"), [(2 * SIZE, True), (2 * SIZE - 2, False)])
def test_pictures_that_lose_their_detail_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int, is_told: bool
) -> None:
    for number in range(3):
        picture = Image.fromarray(draw("disc", number)[0]).resize((side + 10, side))
        picture.save(tmp_path / f"{number}.png")
    config = tiny_config(calibration=CalibrationConfig(components=10_000))  # ends before training
    with pytest.raises(DataError, match="components"):
        fit(tmp_path, tmp_path / "run", config, None, quiet_progress())
    assert (f"pictures of {side} pixels a side are seen as {SIZE}" in caplog.text) == is_told
