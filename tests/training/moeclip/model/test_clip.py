"""Our CLIP against open_clip's own, with its weights, for pictures of the same and of another grid."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from training.moeclip.model.clip import CLIP, resample_positions
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, TextConfig, VisionConfig
from training.moeclip.weights.open_clip import HubName, load_clip, model_config, read_clip
from training.runs.foreign import WeightsError

CONTEXT, VOCABULARY = 12, 90


def open_clip_model(tmp_path: Path, *, side: int = 40, quick_gelu: bool = False) -> Any:
    """A small CLIP of open_clip's making with weights that are nothing special."""
    settings = {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": side, "layers": 2, "width": 128, "patch_size": 8},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }
    name = f"tiny-{side}-{quick_gelu}"
    (tmp_path / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def config(side: int = 40, **changes: Any) -> CLIPConfig:
    settings = {
        "vision": VisionConfig(width=128, depth=2, heads=2, patch_size=8, image_size=(side, side)),
        "text": TextConfig(width=64, depth=2, heads=2, context_length=CONTEXT, vocabulary=VOCABULARY),
        "embedding": 24,
    }
    return CLIPConfig.model_validate(settings | changes)


@pytest.mark.parametrize("quick_gelu", [False, True])
@torch.no_grad()
def test_both_towers_equal_those_of_open_clip(tmp_path: Path, quick_gelu: bool) -> None:
    theirs = open_clip_model(tmp_path, quick_gelu=quick_gelu)
    ours = CLIP(config(activation="quick_gelu" if quick_gelu else "gelu")).eval()
    load_clip(ours, theirs.state_dict())
    image = torch.randn(2, 3, 40, 40)
    tokens = torch.randint(1, VOCABULARY - 1, (3, CONTEXT))
    tokens[:, 5], tokens[:, 6:] = VOCABULARY - 1, 0
    torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image, normalize=True))
    torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens, normalize=True))
    other = CLIP(config(activation="gelu" if quick_gelu else "quick_gelu")).eval()
    load_clip(other, theirs.state_dict())
    assert not torch.allclose(other.encode_image(image), ours.encode_image(image), atol=1e-4)


@torch.no_grad()
def test_larger_pictures_have_the_positions_that_open_clip_gives_them(tmp_path: Path) -> None:
    theirs = open_clip_model(tmp_path)
    larger = open_clip_model(tmp_path, side=56)
    state = theirs.state_dict()
    open_clip.model.resize_pos_embed(resized := dict(state), larger)
    larger.load_state_dict(resized)
    ours = CLIP(config(side=56)).eval()
    load_clip(ours, state)
    image = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(ours.encode_image(image), larger.encode_image(image, normalize=True))


def test_positions_are_resampled_with_the_cls_token_kept() -> None:
    stored = torch.cat([torch.full((1, 3), 7.0), torch.ones(16, 3)])
    resampled = resample_positions(stored, (5, 6))
    assert resampled.shape == (31, 3)
    assert torch.equal(resampled[0], stored[0])
    torch.testing.assert_close(resampled[1:], torch.ones(30, 3))
    assert resample_positions(stored, (4, 4)) is stored
    assert resample_positions(stored, (2, 8)) is stored
    with pytest.raises(ValueError, match="positional_embedding: 15 patches are no square grid"):
        resample_positions(stored[1:], (4, 4))


def test_halving_a_grid_averages() -> None:
    """A checkerboard becomes its mean, which bicubic sampling without antialiasing would miss."""
    checkerboard = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    stored = torch.cat([torch.zeros(1), checkerboard.flatten().float()]).unsqueeze(1)
    resampled = resample_positions(stored, (4, 4))[1:]
    torch.testing.assert_close(resampled, torch.full((16, 1), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("visual.ln_pre.bias"), r"1 missing: visual\.ln_pre\.bias$"),
        (lambda state: state.update(logit_bias=torch.zeros(())), "1 left over: logit_bias$"),
        (
            lambda state: state.update({"visual.proj": torch.zeros(128, 25)}),
            r"1 of another shape: visual\.proj \(128, 25\) instead of \(128, 24\)$",
        ),
        (
            lambda state: state.update({"visual.positional_embedding": torch.zeros(12, 128)}),
            "positional_embedding: 11 patches are no square grid$",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, message: str) -> None:
    clip = CLIP(config())
    state = clip.state_dict()
    change(state)
    with pytest.raises(WeightsError, match=message):
        load_clip(clip, state)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_local_file_is_read_in_single_precision(tmp_path: Path, suffix: str) -> None:
    state = {name: one.half() for name, one in CLIP(config()).state_dict().items()}
    file = tmp_path / f"clip.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save({"state_dict": state}, file)
    read = read_clip(file)
    assert {one.dtype for one in read.values()} == {torch.float32}
    load_clip(CLIP(config()), read)


def test_a_name_of_the_hub_goes_through_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = open_clip_model(tmp_path)
    asked = []
    monkeypatch.setattr(
        open_clip, "create_model", lambda name, pretrained: asked.append((name, pretrained)) or theirs
    )
    read = read_clip(HubName.parse("ViT-L-14-336:openai"))
    assert asked == [("ViT-L-14-336", "openai")]
    load_clip(CLIP(config()), read)


def test_what_the_hub_does_not_give_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, pretrained: str) -> None:
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(WeightsError, match="ViT-B-32:openai: no network"):
        read_clip(HubName.parse("ViT-B-32:openai"))


@pytest.mark.parametrize("name", ["ViT-L-14-336", "ViT-L-14-336:none", "nothing:openai", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="neither a file nor MODEL:TAG of a CLIP that open_clip knows"):
        HubName.parse(name)


def test_settings_of_open_clips_models() -> None:
    assert model_config("ViT-L-14-336") == MoECLIPConfig()
    small = model_config("ViT-B-16")
    assert (small.layers, small.clip.vision.image_size, small.clip.vision.heads) == (
        (3, 6, 9, 12),
        (512, 512),
        12,
    )
    for other in ("RN50", "coca_ViT-L-14", "ViT-B-16-SigLIP", "none"):
        with pytest.raises(WeightsError, match=f"{other}: no CLIP of two plain transformers"):
            model_config(other)


def test_the_full_size_model_has_the_tensors_of_clip() -> None:
    """OpenAI's ViT-L/14 at 336 pixels has 427.9 M parameters; more pictures positions come on top."""
    with torch.device("meta"):
        clip = CLIP(CLIPConfig())
    parameters = sum(one.numel() for one in clip.parameters())
    assert parameters == 427_944_193 + (37 * 37 - 24 * 24) * 1024
