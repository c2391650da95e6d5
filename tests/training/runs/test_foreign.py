import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.anomalymoe.tiny import released_layout, tiny_model
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.presets import official_config
from training.anomalymoe.weights.released import load_released
from training.backbones.vit import VisionTransformer, ViTConfig
from training.runs.foreign import WeightsError, load_strict, read_state


def test_the_released_layout_restores_a_model():
    source, target = tiny_model(seed=1), tiny_model(seed=2)
    load_released(target, released_layout(source))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_half_precision_fills_the_parameters_in_their_own():
    source, target = tiny_model(seed=1), tiny_model(seed=2)
    load_released(target, {name: tensor.half() for name, tensor in released_layout(source).items()})
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor.half().float()), name


def test_every_problem_is_named():
    model = tiny_model()
    released = released_layout(model)
    released["patch_experts.0.extra"] = torch.zeros(1)
    released["component_experts.1.encoder.0.bias"] = torch.zeros(2)
    del released["encoder.cls_token"]
    with pytest.raises(WeightsError) as caught:
        load_released(model, released)
    assert str(caught.value) == (
        "1 missing: encoder.cls_token; 1 left over: patch_experts.0.extra; "
        "1 of another shape: component_experts.1.encoder.0.bias (2,) instead of (12,)"
    )


def test_an_expert_too_many_is_not_taken_for_one_of_the_next_level():
    released = released_layout(tiny_model()) | {"patch_experts.3.decoder.0.norm1.bias": torch.zeros(16)}
    with pytest.raises(WeightsError, match=r"^1 left over: patch_experts\.3\.decoder\.0\.norm1\.bias$"):
        load_released(tiny_model(), released)


def test_a_router_of_another_size_is_refused():
    released = released_layout(tiny_model()) | {"gating_network.gate.2.bias": torch.zeros(18)}
    with pytest.raises(WeightsError, match=r"gating_network\.gate\.2\.bias \(18,\) instead of \(7,\)"):
        load_released(tiny_model(), released)


@pytest.mark.parametrize("name", ["mask_token", "norm.weight", "norm.bias"])
def test_tensors_that_nothing_reads_are_checked_too(name):
    released = released_layout(tiny_model())
    shape = tuple(released.pop(f"encoder.{name}").shape)
    with pytest.raises(WeightsError, match=f"^1 missing: encoder.{name}$"):
        load_released(tiny_model(), released)
    released[f"encoder.{name}"] = torch.zeros(3)
    with pytest.raises(WeightsError) as caught:
        load_released(tiny_model(), released)
    assert str(caught.value) == f"1 of another shape: encoder.{name} (3,) instead of {shape}"


def test_the_full_size_model_has_the_released_size():
    with torch.device("meta"):
        model = AnomalyMoE(official_config(), VisionTransformer(ViTConfig()))
    tensors = model.state_dict()
    # The release also holds the mask token and the final norm of the encoder, which nothing reads.
    assert len(tensors) + 3 == 1092
    assert sum(tensor.numel() for tensor in tensors.values()) + 3 * 768 == 539_038_162


def test_files_are_read_without_unpickling(tmp_path):
    state = {"a": torch.ones(2)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert torch.equal(read_state(tmp_path / name)["a"], state["a"])
    torch.save({"module.a": state["a"]}, tmp_path / "wrapped.pth")
    for kept_as in ("state_dict", "model"):
        torch.save({kept_as: {"module.a": state["a"]}, "epoch": 3}, tmp_path / f"{kept_as}.pth")
    for name in ("wrapped", "state_dict", "model"):
        assert list(read_state(tmp_path / f"{name}.pth")) == ["a"]
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump(print, file, protocol=2)
    torch.save({"a": {"b": state["a"]}, "epoch": 3}, tmp_path / "nested.pth")
    torch.save([state["a"]], tmp_path / "list.pth")
    for name, message in (
        ("evil.pth", "cannot be read"),
        ("nested.pth", "flat state dict of tensors, it holds a, epoch"),
        ("list.pth", "flat state dict"),
        ("none.pth", "cannot be"),
        ("none.safetensors", "cannot be"),
    ):
        with pytest.raises(WeightsError, match=f"{name}: .*{message}"):
            read_state(tmp_path / name)


def test_strict_loading_fills_a_module():
    module = nn.Linear(2, 1)
    load_strict(module, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    assert module.weight.tolist() == [[1.0, 1.0]]
