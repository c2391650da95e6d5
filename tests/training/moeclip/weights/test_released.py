"""Released adapter files: their layout, what becomes of them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from tests import oracle
from training.anomalymoe.checkpoint import load_checkpoint
from training.anomalymoe.fit_config import preset
from training.cli.import_weights import import_file
from training.cli.main import app
from training.moeclip.checkpoint import RunConfig, load_run
from training.moeclip.importing import run_config
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.weights.released import load_adapters, read_released, released_config, released_layout
from training.runs.files import read_method
from training.runs.foreign import WeightsError

LAYOUT = oracle.FOLDER / "moeclip_official_layout.json"
VISION = VisionConfig(width=32, depth=3, heads=2, patch_size=8, image_size=(40, 40))


def config(**changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "clip": CLIPConfig(vision=VISION, text=TextConfig(width=16, depth=1, heads=2), embedding=24),
        "layers": (1, 3),
        "moe": MoEConfig(rank=4),
        "text_adapter": True,
        "prompts": "released",
    }
    return run_config(MoECLIPConfig.model_validate(settings | changes))


def released_file(path: Path, model: MoECLIP, **changes: Any) -> Path:
    """A file as the released training script writes it."""
    parts: dict[str, dict[str, Tensor]] = {"image_adapter": {}, "text_adapter": {}}
    for name, tensor in released_layout(model).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor.clone()
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 5e-4, "params": [0]}]}
    torch.save({"epoch": 20, "optimizer_state_dict": optimizer, **parts, **changes}, path)
    return path


@pytest.fixture
def model() -> MoECLIP:
    torch.manual_seed(0)
    return MoECLIP(config().model)


@pytest.fixture
def clip_file(tmp_path: Path, model: MoECLIP) -> Path:
    torch.save(model.clip.state_dict(), tmp_path / "clip.pth")
    return tmp_path / "clip.pth"


@pytest.mark.skipif(not LAYOUT.exists(), reason="no released layout; set ANOMOE_ORACLE to its folder")
def test_the_full_size_model_has_the_released_layout() -> None:
    expected = {
        f"{part}.{name}": tuple(shape)
        for part, shapes in json.loads(LAYOUT.read_text()).items()
        for name, shape in shapes.items()
    }
    with torch.device("meta"):
        ours = released_layout(MoECLIP(released_config({})))
    assert {name: tuple(one.shape) for name, one in ours.items()} == expected
    assert len(expected) == 44 + 1


def test_adapters_and_clip_become_a_run(tmp_path: Path, model: MoECLIP, clip_file: Path) -> None:
    imported = import_file(released_file(tmp_path / "a.pth", model), tmp_path / "run", config(), clip_file)
    assert imported.path == tmp_path / "run" / "weights.safetensors"
    assert imported.description.startswith("released MoECLIP adapters, 25 tensors, 0.0")
    run = load_run(tmp_path / "run")
    assert (run.config, run.class_scores, read_method(tmp_path / "run")) == (config(), {}, "moeclip")
    expected = model.state_dict()
    assert set(run.model.state_dict()) == set(expected)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert run.tokenizer.encode("bottle").ids[:3] == [49406, 5392, 49407]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["imported_tensors"] == 25


def test_settings_are_seen_from_the_names(model: MoECLIP) -> None:
    plain = released_config(released_layout(model))
    assert (plain.leaky_projection, plain.text_adapter, plain.prompts) == (False, True, "released")
    assert plain.clip.activation == "gelu"
    leaky = MoECLIP(config(leaky_projection=True).model)
    assert "image_adapter.seg_proj.1.fc.0.weight" in released_layout(leaky)
    assert released_config(released_layout(leaky)).leaky_projection


def test_layers_experts_and_halves_keep_their_place(model: MoECLIP) -> None:
    state = released_layout(model)
    for name, tensor in state.items():
        tensor.fill_(float(sum(name.encode())))
    other = MoECLIP(config().model)
    load_adapters(other, {name: one.clone() for name, one in state.items()})
    for name, tensor in released_layout(other).items():
        assert (tensor == float(sum(name.encode()))).all(), name
    second = float(sum(b"image_adapter.moe_adapters.1.experts.2.lora_A.weight"))
    moe: Any = other.moe[1]
    assert (moe.lora_a[8:12] == second).all()
    assert not (moe.lora_a[:8] == second).any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "image_adapter.moe_adapters.1.gate.weight",
            None,
            r"1 missing: image_adapter\.moe_adapters\.1\.gate",
        ),
        ("image_adapter.extra", torch.zeros(1), r"1 left over: image_adapter\.extra$"),
        (
            "text_adapter.0.fc.0.weight",
            torch.zeros(24, 17),
            r"1 of another shape: text_adapter\.0\.fc\.0\.weight \(24, 17\) instead of \(24, 16\)$",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_written(
    tmp_path: Path, model: MoECLIP, clip_file: Path, name: str, value: Tensor | None, message: str
) -> None:
    file = released_file(tmp_path / "a.pth", model)
    content = torch.load(file, weights_only=True)
    part, _, rest = name.partition(".")
    content[part].pop(rest, None)
    if value is not None:
        content[part][rest] = value
    torch.save(content, file)
    with pytest.raises(WeightsError, match=rf"a\.pth: {message}"):
        import_file(file, tmp_path / "run", config(), clip_file)
    assert not (tmp_path / "run").exists()


def test_a_clip_that_does_not_fit_is_named(tmp_path: Path, model: MoECLIP, clip_file: Path) -> None:
    state = torch.load(clip_file, weights_only=True)
    del state["ln_final.bias"]
    torch.save(state, clip_file)
    with pytest.raises(WeightsError, match=r"clip\.pth: 1 missing: ln_final\.bias$"):
        import_file(released_file(tmp_path / "a.pth", model), tmp_path / "run", config(), clip_file)


def test_unknown_entries_of_the_file_are_named(tmp_path: Path, model: MoECLIP) -> None:
    with pytest.raises(WeightsError, match=r"a\.pth: holds \['epoch', .*'scaler'.*\] in place of"):
        read_released(released_file(tmp_path / "a.pth", model, scaler={}))


def test_other_files_are_not_taken_for_adapters(clip_file: Path, tmp_path: Path) -> None:
    assert read_released(clip_file) is None
    (tmp_path / "text.pth").write_text("no weights")
    assert read_released(tmp_path / "text.pth") is None


def test_a_clip_alone_becomes_a_run_to_start_from(tmp_path: Path, model: MoECLIP, clip_file: Path) -> None:
    imported = import_file(clip_file, tmp_path / "run", config())
    assert "adapters untrained" in imported.description
    run = load_run(tmp_path / "run")
    for name, tensor in model.clip.state_dict().items():
        assert torch.equal(run.model.clip.state_dict()[name], tensor), name


def test_another_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    text = TextConfig(width=16, depth=1, heads=2, vocabulary=99)
    settings = config(clip=CLIPConfig(vision=VISION, text=text, embedding=24))
    torch.save(MoECLIP(settings.model).clip.state_dict(), tmp_path / "clip.pth")
    with pytest.raises(WeightsError, match=r"model\.clip\.text\.vocabulary: CLIP has 49408, got 99"):
        import_file(tmp_path / "clip.pth", tmp_path / "run", settings)


def test_settings_of_the_other_method_are_refused(tmp_path: Path, clip_file: Path) -> None:
    with pytest.raises(WeightsError, match="settings of the other method: FitConfig in place of RunConfig"):
        import_file(clip_file, tmp_path / "run", preset("offline"))


def test_a_moeclip_run_is_not_read_as_anomalymoe(tmp_path: Path, clip_file: Path) -> None:
    import_file(clip_file, tmp_path / "run", config())
    with pytest.raises(ValueError, match=r"config\.json: "):
        load_checkpoint(tmp_path / "run")


def test_the_command_takes_adapters_with_their_clip_and_explains_itself(
    tmp_path: Path, model: MoECLIP, clip_file: Path
) -> None:
    file, settings = released_file(tmp_path / "a.pth", model), tmp_path / "settings.json"
    settings.write_text(config().model_dump_json())
    arguments = ["import-weights", str(file), "--output", str(tmp_path / "run")]
    options = ["--clip", str(clip_file), "--config", str(settings)]
    result = CliRunner().invoke(app, arguments + options)
    assert result.exit_code == 0, result.output
    assert "released MoECLIP adapters, 25 tensors" in " ".join(result.stdout.split())
    assert load_run(tmp_path / "run").config == config()
    refused = CliRunner().invoke(app, [*arguments, "--clip", str(clip_file)])  # the settings of the release
    assert refused.exit_code == 1
    assert "a.pth: 20 missing: image_adapter.moe_adapters.2.experts.0.lora_A.weight" in refused.stderr


def test_the_command_takes_a_clip_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(config().model_dump_json())
    theirs = MoECLIP(config().model).clip
    monkeypatch.setattr(open_clip, "create_model", lambda *_name, **_tag: theirs)
    arguments = ["--output", str(tmp_path / "run"), "--config", str(settings)]
    result = CliRunner().invoke(app, ["import-weights", "ViT-L-14-336:openai", *arguments])
    assert result.exit_code == 0, result.output
    assert torch.equal(load_run(tmp_path / "run").model.clip.visual.proj, theirs.visual.proj)
    unknown = CliRunner().invoke(app, ["import-weights", "clip.pth", *arguments])
    assert unknown.exit_code == 1
    assert "clip.pth: neither a file nor MODEL:TAG of a CLIP that open_clip knows" in unknown.stderr
