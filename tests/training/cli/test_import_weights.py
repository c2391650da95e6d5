"""Imported weights: which file is which, what becomes of it, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.anomalymoe.tiny import (
    dinov2_layout,
    randomised,
    released_layout,
    tiny_model,
    vit_config,
)
from tests.training.tiny_run import vit_run_config
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit import BACKBONE, BACKBONE_KEY
from training.anomalymoe.fit_config import preset
from training.anomalymoe.weights.pretrained import load_pretrained
from training.backbones.vit import VisionTransformer, ViTConfig
from training.cli.import_weights import import_file, released_config
from training.runs.files import CATEGORIES, CheckpointError
from training.runs.foreign import WeightsError


def test_the_released_detector_becomes_a_run_without_products(released: Path, tmp_path: Path) -> None:
    imported = import_file(released, tmp_path / "run", vit_run_config())
    assert imported.path == tmp_path / "run" / "weights.safetensors"
    count = len(released_layout(tiny_model()))
    assert imported.description.startswith(f"released detector, {count} tensors, 0.0")
    loaded = load_checkpoint(tmp_path / "run", calibrated=False)
    assert (loaded.config, loaded.categories) == (vit_run_config(), {})
    expected = tiny_model().state_dict()
    for name, tensor in loaded.detector.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_run_without_products_says_how_to_add_them(released: Path, tmp_path: Path) -> None:
    import_file(released, tmp_path / "run", vit_run_config())
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "run")
    assert str(tmp_path / "run" / CATEGORIES) in str(caught.value)
    assert f"`anomoe-train calibrate {tmp_path / 'run'}` adds them" in str(caught.value)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_an_encoder_becomes_a_backbone_that_fit_accepts(tmp_path: Path, suffix: str) -> None:
    encoder = VisionTransformer(vit_config())
    randomised(encoder)
    file = tmp_path / f"dinov2.{suffix}"
    state = dinov2_layout(encoder)
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / BACKBONE_KEY).write_text("of an offline backbone")
    imported = import_file(file, tmp_path / "run", vit_run_config())
    assert imported.path == tmp_path / "run" / BACKBONE
    assert not (tmp_path / "run" / BACKBONE_KEY).exists()
    restored = VisionTransformer(vit_config())
    load_pretrained(restored, "dinov2-reg-base", imported.path)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(restored.state_dict()[name], tensor), name


def test_a_backbone_file_with_a_tensor_too_few_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dinov2.safetensors"
    save_file(dinov2_layout(VisionTransformer(vit_config())), file)
    path = import_file(file, tmp_path / "run", vit_run_config()).path
    save_file({name: one for name, one in load_file(path).items() if name != "cls_token"}, path)
    with pytest.raises(WeightsError, match=r"backbone\.safetensors: 1 missing: cls_token$"):
        load_pretrained(VisionTransformer(vit_config()), "dinov2-reg-base", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module.patch_experts.0.extra": torch.zeros(1)}, "1 left over: patch_experts.0.extra"),
        (
            {"module.encoder.cls_token": torch.zeros(1, 1, 3)},
            r"1 of another shape: encoder.cls_token \(1, 1, 3\) instead of \(1, 1, 16\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(
    released: Path, tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    torch.save(torch.load(released, weights_only=True) | change, released)
    with pytest.raises(WeightsError, match=rf"r\.pth: {message}$"):
        import_file(released, tmp_path / "run", vit_run_config())
    assert not (tmp_path / "run").exists()


def test_an_unknown_file_is_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1), "conv1.weight": torch.zeros(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(WeightsError, match=r"resnet.*: neither .* it holds conv1\.weight, fc\.weight$"):
        import_file(tmp_path / "resnet.safetensors", tmp_path / "run")


def test_an_encoder_is_not_imported_for_the_offline_backbone(tmp_path: Path) -> None:
    save_file(dinov2_layout(VisionTransformer(vit_config())), tmp_path / "dinov2.safetensors")
    with pytest.raises(WeightsError, match="the settings are those of backbone 'offline'"):
        import_file(tmp_path / "dinov2.safetensors", tmp_path / "run", preset("offline"))


def test_registers_and_the_scoring_of_the_release_are_seen_from_the_file() -> None:
    for name, registers, backbone in (
        ("encoder.register_tokens", 4, "dinov2-reg-base"),
        ("encoder.cls_token", 0, "dinov2-base"),
    ):
        config = released_config({name: torch.zeros(1)})
        assert isinstance(config.encoder, ViTConfig)
        assert (config.backbone, config.encoder.registers) == (backbone, registers)
        assert config.detector.global_.scoring == "student"
        assert config.detector.router.hidden == 256
