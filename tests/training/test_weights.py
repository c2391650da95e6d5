import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training.anomalymoe.tiny import tiny_model
from training.anomalymoe.config import ViTConfig
from training.anomalymoe.detector import AnomalyMoE
from training.anomalymoe.encoder import VisionTransformer
from training.anomalymoe.presets import official_config
from training.weights import WeightsError, from_released, load_released, load_strict, read_state

LEVELS = {"patch": range(3), "component": range(3, 5), "global": range(5, 7)}


def released_layout(model: AnomalyMoE) -> dict[str, Tensor]:
    """A model's weights as the release names and orders them."""
    patch, component, _ = model.config.counts
    released: dict[str, Tensor] = {"encoder.mask_token": torch.zeros(1, 16)}
    released |= {f"encoder.norm.{name}": torch.zeros(16) for name in ("weight", "bias")}
    for name, tensor in model.state_dict().items():
        first, _, rest = name.partition(".")
        if first == "experts":
            column, _, rest = rest.partition(".")
            level = next(level for level, columns in LEVELS.items() if int(column) in columns)
            rest = rest.replace("bottleneck.", "bottleneck.0.")
            released[f"{level}_experts.{LEVELS[level].index(int(column))}.{rest}"] = tensor
        elif first == "router":
            is_output = rest.startswith("gate.2.")
            split = tensor.tensor_split([patch, patch + component]) if is_output else ()
            released[f"gating_network.{rest}"] = (
                torch.cat([split[0], split[2], split[1]]) if split else tensor
            )
        else:
            rest = rest.replace("patch_embed.", "patch_embed.proj.")
            rest = rest.replace("scale1", "ls1.gamma").replace("scale2", "ls2.gamma")
            released[f"encoder.{rest}"] = tensor
    return released


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_released_layout_restores_a_model(prefix):
    source, target = tiny_model(seed=1), tiny_model(seed=2)
    released = {prefix + name: tensor for name, tensor in released_layout(source).items()}
    load_released(target, released)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_every_problem_is_named():
    model = tiny_model()
    released = released_layout(model)
    released["patch_experts.0.extra"] = torch.zeros(1)
    released["component_experts.1.encoder.0.bias"] = torch.zeros(2)
    del released["encoder.cls_token"]
    with pytest.raises(WeightsError) as caught:
        load_released(model, released)
    assert str(caught.value) == (
        "1 missing: encoder.cls_token; 1 left over: experts.0.extra; "
        "1 of another shape: experts.4.encoder.0.bias (2,) instead of (12,)"
    )


def test_an_expert_too_many_is_not_taken_for_one_of_the_next_level():
    released = released_layout(tiny_model()) | {"patch_experts.3.decoder.0.norm1.bias": torch.zeros(16)}
    with pytest.raises(WeightsError, match=r"patch_experts\.3\..*: the model has 3 patch experts"):
        from_released(released, tiny_model().config)


def test_a_router_of_another_size_is_refused():
    released = released_layout(tiny_model()) | {"gating_network.gate.2.bias": torch.zeros(18)}
    with pytest.raises(WeightsError, match=r"gate\.2\.bias: 18 outputs for 7 experts"):
        from_released(released, tiny_model().config)


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
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump(print, file, protocol=2)
    torch.save({"model": state}, tmp_path / "nested.pth")
    for name, message in (
        ("evil.pth", "cannot be read"),
        ("nested.pth", "flat state dict"),
        ("none.pth", "cannot be"),
        ("none.safetensors", "cannot be"),
    ):
        with pytest.raises(WeightsError, match=f"{name}: .*{message}"):
            read_state(tmp_path / name)


def test_strict_loading_fills_a_module():
    module = nn.Linear(2, 1)
    load_strict(module, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    assert module.weight.tolist() == [[1.0, 1.0]]
