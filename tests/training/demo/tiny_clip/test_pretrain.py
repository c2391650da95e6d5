from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from training.demo.things.captions import vocabulary
from training.demo.things.pairs import Pairs, draw_pair, draw_pairs
from training.demo.tiny_clip.model import CONTEXT_LENGTH, demo_model
from training.demo.tiny_clip.pretrain import PretrainConfig, pretrain
from training.demo.tiny_clip.run import make_clip
from training.moeclip.backbone import read_backbone
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, TextConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.tokenizer import train_tokenizer
from training.runs.files import read_settings
from training.runs.resume import Resume

CONFIG = PretrainConfig(steps=6, pairs_per_shard=2, warm_up=2, save_every=3)
TOKENIZER = train_tokenizer(vocabulary(), 50, CONTEXT_LENGTH)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    drawn = [draw_pair(index, 0) for index in range(0, 60, 10)]
    return Pairs(np.stack([pictures for pictures, _ in drawn]), tuple(facts for _, facts in drawn))


def tiny_model() -> MoECLIP:
    text = TextConfig(
        width=16, depth=1, heads=1, context_length=CONTEXT_LENGTH, vocabulary=TOKENIZER.get_vocab_size()
    )
    vision = VisionConfig(width=32, depth=1, heads=1, patch_size=16, image_size=(96, 96))
    torch.manual_seed(0)
    return MoECLIP(MoECLIPConfig(clip=CLIPConfig(vision=vision, text=text, embedding=16), layers=(1,)))


def trained(pairs: Pairs, folder: Path, stop_after: int = 0) -> tuple[MoECLIP, list[float]]:
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if step == stop_after:
            raise KeyboardInterrupt

    model = tiny_model()
    with suppress(KeyboardInterrupt):
        pretrain(model, TOKENIZER, pairs, CONFIG, on_step, Resume(folder / "state", "key", CONFIG.save_every))
    return model, losses


def test_every_parameter_of_clip_is_trained_and_no_adapter(pairs: Pairs, tmp_path: Path) -> None:
    before, (after, _) = tiny_model().state_dict(), trained(pairs, tmp_path)
    unchanged = {name for name, tensor in after.state_dict().items() if torch.equal(tensor, before[name])}
    assert unchanged == {name for name in before if not name.startswith("clip.")}
    assert not any(parameter.requires_grad for parameter in after.clip.parameters())


def test_a_stopped_training_ends_as_an_unbroken_one(pairs: Pairs, tmp_path: Path) -> None:
    whole, _ = trained(pairs, tmp_path / "whole")
    trained(pairs, tmp_path / "stopped", stop_after=4)
    resumed, losses = trained(pairs, tmp_path / "stopped")
    assert len(losses) == 3  # steps 4 to 6: the state was saved after step 3
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_settings_of_the_process_are_as_before(pairs: Pairs, tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    trained(pairs, tmp_path, stop_after=1)
    assert torch.get_float32_matmul_precision() == before


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = PretrainConfig(steps=100, warm_up=10, cool_down=0.2, learning_rate=1.0)
    assert [config.rate(step) for step in (5, 10, 80)] == [0.5, 1.0, 1.0]
    assert config.rate(91) == pytest.approx(0.5)
    assert 0 < config.rate(100) < 0.1


def test_a_run_starts_the_adapters(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "pairs", 30)
    with Progress(disable=True) as progress:
        settings = make_clip(
            tmp_path / "pairs", tmp_path / "run", PretrainConfig(steps=1, pairs_per_shard=1), progress
        )
    backbone = read_backbone(str(tmp_path / "run"))
    assert backbone.config == demo_model(backbone.tokenizer.get_vocab_size())
    assert read_settings(settings, MoECLIPFitConfig).model == backbone.config
