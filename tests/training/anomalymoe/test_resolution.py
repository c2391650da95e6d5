"""A finer encoder is taken where only it shows synthetic defects."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from export.contract.manifest import InputSpec
from export.contract.preprocess import Pixels
from tests.training.tiny_run import quiet_progress
from training.anomalymoe import resolution
from training.anomalymoe.fit_config import FitConfig, preset
from training.anomalymoe.products import find_normal
from training.anomalymoe.resolution import TRIED, choose_resolution
from training.backbones.conv import ConvEncoder, ConvEncoderConfig

MODEL = "test_efficientnet"
SEEN, SIDE = 64, 128

Damage = Callable[[np.random.Generator, Pixels], Pixels]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a board whose squares are single pixels: shrunk to half they are grey."""
    folder = tmp_path_factory.mktemp("data")
    board = np.indices((SIDE, SIDE)).sum(0) % 2 * 80 + 80
    rng = np.random.default_rng(0)
    for number in range(TRIED):
        grey = (board + rng.normal(0, 6, board.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).convert("RGB").save(folder / f"{number}.png")
    return folder


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> FitConfig:
    encoder = ConvEncoderConfig(model=MODEL, image_size=(SEEN, SEEN), grid=(8, 8), stages=(1, 2))
    config = preset("efficientnet-lite0").model_copy(
        update={"encoder": encoder, "input": InputSpec(height=SEEN, width=SEEN)}
    )
    monkeypatch.setattr(resolution, "preset", lambda _: config)
    return config


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model(MODEL).state_dict(), path)
    return path


def smooth_a_patch(_: np.random.Generator, pictures: Pixels) -> Pixels:
    """Only the finest detail is lost."""
    changed = pictures.copy()
    changed[:, 40:72, 40:72] = 120
    return changed


def darken_a_patch(_: np.random.Generator, pictures: Pixels) -> Pixels:
    changed = pictures.copy()
    changed[:, 40:72, 40:72] //= 3
    return changed


@pytest.mark.parametrize(("damage", "taken"), [(smooth_a_patch, SIDE), (darken_a_patch, SEEN)])
def test_finer_pictures_are_taken_where_only_they_show_defects(
    data: Path,
    config: FitConfig,
    weights: Path,
    damage: Damage,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(resolution, "damage", damage)
    chosen = choose_resolution(find_normal(data), config, weights, quiet_progress())
    assert chosen.encoder.image_size == (taken, taken) == (chosen.input.height, chosen.input.width)
    assert f"pictures of {SIDE} pixels a side: synthetic defects have an AUROC of" in caplog.text
    assert ("is taken" in caplog.text) == (taken == SIDE)
    if taken == SEEN:
        assert chosen == config


def test_what_is_fixed_stays_without_a_word(
    data: Path, config: FitConfig, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = config.model_copy(update={"resolution": "fixed"})
    assert choose_resolution(find_normal(data), own, weights, quiet_progress()) == own
    assert "pixels" not in caplog.text


def test_an_encoder_of_ones_own_stays(
    data: Path, config: FitConfig, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ConvEncoderConfig(model=MODEL, image_size=(SEEN, SEEN), grid=(4, 4), stages=(1, 2))
    own = config.model_copy(update={"encoder": encoder})
    assert choose_resolution(find_normal(data), own, weights, quiet_progress()) == own
    assert f"are seen as {SEEN}, where fine defects vanish" in caplog.text


def test_weights_of_certain_stages_stay_with_them(
    data: Path, config: FitConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(config.encoder, ConvEncoderConfig)
    state = ConvEncoder(config.encoder).state_dict()
    save_file({name: one.contiguous() for name, one in state.items()}, tmp_path / "own.safetensors")
    found = choose_resolution(find_normal(data), config, tmp_path / "own.safetensors", quiet_progress())
    assert found == config
    assert "fine defects vanish" in caplog.text


def test_pictures_too_few_to_try_are_told(
    data: Path, config: FitConfig, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_resolution(find_normal(data)[1:], config, weights, quiet_progress()) == config
    assert "fine defects vanish" in caplog.text
