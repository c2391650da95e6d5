from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.contract.category import ClassScores
from export.contract.manifest import InputSpec
from tests.training.moeclip.tiny import MODEL, tiny_config, tiny_detector, tiny_tokenizer
from training.moeclip.checkpoint import RunConfig, load_run, save_run
from training.moeclip.fit_config import MoECLIPFitConfig
from training.runs.files import CheckpointError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ramp = np.linspace(0.1, 0.4, 4, dtype=np.float32)
    scores = [ClassScores(name="disc", scores=ramp, peaks=ramp + np.float32(0.1))]
    save_run(tmp_path / "run", tiny_config(), tiny_detector(), tiny_tokenizer(), scores, {"steps": 12})
    return tmp_path / "run"


def test_what_was_written_is_read(run: Path) -> None:
    loaded = load_run(run, MoECLIPFitConfig)
    assert loaded.config == tiny_config()
    assert not loaded.model.training
    assert list(loaded.class_scores) == ["disc"]
    np.testing.assert_allclose(loaded.class_scores["disc"].peaks, [0.2, 0.3, 0.4, 0.5], rtol=1e-6)
    assert loaded.tokenizer.to_str() == tiny_tokenizer().to_str()
    for name, tensor in tiny_detector().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert sorted(path.name for path in run.iterdir()) == [
        "categories.safetensors",
        "config.json",
        "report.json",
        "tokenizer.json",
        "weights.safetensors",
    ]


def test_any_run_is_read_by_what_all_have(run: Path) -> None:
    config = load_run(run).config
    assert type(config) is RunConfig
    assert (config.model, config.map_size) == (MODEL, (40, 40))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b'{"method": "anomalymoe"}', "config.json: method"),
        ("config.json", b"{", "config.json: settings"),
        ("tokenizer.json", b"{}", "tokenizer.json: "),
        ("weights.safetensors", b"none", "weights.safetensors: "),
        ("categories.safetensors", b"none", "categories.safetensors: "),
    ],
)
def test_a_damaged_file_is_named(run: Path, file: str, content: bytes, message: str) -> None:
    (run / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_run(run)
    (run / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_run(run)


def test_a_missing_tensor_is_named(run: Path) -> None:
    weights = load_file(run / "weights.safetensors")
    del weights["moe.1.lora_a"]
    save_file(weights, run / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"moe\.1\.lora_a"):
        load_run(run)


def test_input_and_model_agree() -> None:
    with pytest.raises(ValueError, match=r"input must have the model's size \(40, 40\), got \(40, 48\)"):
        RunConfig(model=MODEL, input=InputSpec(height=40, width=48))
