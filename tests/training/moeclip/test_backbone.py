"""The CLIP that training starts from: of a run, of a file, of open_clip by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.moeclip.tiny import MODEL, tiny_config, tiny_detector, tiny_tokenizer
from training.moeclip import backbone as backbone_module
from training.moeclip.backbone import read_backbone
from training.moeclip.checkpoint import save_run
from training.moeclip.model.clip import CLIP
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.tokenizer import clip_tokenizer
from training.moeclip.weights.open_clip import HubName, model_config
from training.runs.foreign import WeightsError

WORDY = MoECLIPConfig.model_validate(
    MODEL.model_dump()
    | {"clip": MODEL.clip.model_dump() | {"text": MODEL.clip.text.model_dump() | {"vocabulary": 49408}}}
)


def assert_same(found: CLIP, expected: CLIP) -> None:
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    save_file(tiny_detector(WORDY).clip.state_dict(), tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def test_of_a_run(tmp_path: Path) -> None:
    model = tiny_detector()
    save_run(tmp_path, tiny_config(), model, tiny_tokenizer())
    found = read_backbone(str(tmp_path))
    assert found.config == MODEL
    assert found.tokenizer.to_str() == tiny_tokenizer().to_str()
    assert_same(found.clip, model.clip)


def test_of_a_file_by_the_settings_of_the_run(clip_file: Path) -> None:
    found = read_backbone(str(clip_file), WORDY)
    assert_same(found.clip, tiny_detector(WORDY).clip)
    assert found.config == WORDY
    assert found.tokenizer.to_str() == clip_tokenizer(WORDY.clip.text.context_length).to_str()


def test_a_file_that_does_not_fit_is_named(clip_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"clip\.safetensors: "):
        read_backbone(str(clip_file), MODEL)


def test_of_open_clip_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[HubName] = []

    def read(name: HubName) -> dict[str, torch.Tensor]:
        asked.append(name)
        return tiny_detector(WORDY).clip.state_dict()

    def sized(name: str) -> MoECLIPConfig:
        assert model_config(name).clip.vision.width == 1024
        return WORDY

    monkeypatch.setattr(backbone_module, "read_clip", read)
    monkeypatch.setattr(backbone_module, "model_config", sized)
    found = read_backbone("ViT-L-14-336:openai")
    assert asked == [HubName("ViT-L-14-336", "openai")]
    assert_same(found.clip, tiny_detector(WORDY).clip)


def test_anything_else_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"no-such: neither a file nor MODEL:TAG"):
        read_backbone("no-such")
