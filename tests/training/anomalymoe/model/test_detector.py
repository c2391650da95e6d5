import pytest
import torch

from tests.training.anomalymoe.tiny import (
    STUDENT,
    centres,
    model_config,
    pictures,
    scene_of,
    spread_choices,
    tiny_model,
    vit_config,
)
from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
)
from training.anomalymoe.model.detector import AnomalyMoE, Detection
from training.anomalymoe.model.patch import PatchExpert
from training.anomalymoe.model.router import RouterOutput
from training.anomalymoe.presets import compact_autoencoder
from training.backbones.vit import VisionTransformer


@pytest.mark.parametrize("selection", ["top_k", "per_level"])
@pytest.mark.parametrize("fuse_groups", [((1, 2),), ((0, 1), (2, 3))])
def test_sparse_equals_dense(selection, fuse_groups):
    model = tiny_model(
        seed=2,
        vit=vit_config(fuse_groups=fuse_groups),
        router=RouterConfig(hidden=8, top_k=3, selection=selection),
    )
    with torch.inference_mode():
        spread_choices(model, pictures(5))
        sparse = model(pictures(5), *centres(5))
        dense = model(pictures(5), *centres(5), dense=True)
    assert sparse.errors.shape == (5, 3, 4, 4)
    assert len(sparse.router.experts.unique()) > 3
    torch.testing.assert_close(sparse.errors, dense.errors, rtol=1e-5, atol=1e-6)


def test_a_picture_scores_the_same_alone_and_in_a_batch():
    model = tiny_model()
    values, valid = centres(4)
    with torch.inference_mode():
        together = model(pictures(4), values, valid)
        alone = [model(pictures(4)[i : i + 1], values[i : i + 1], valid[i : i + 1]) for i in range(4)]
    assert torch.equal(together.router.experts, torch.cat([one.router.experts for one in alone]))
    torch.testing.assert_close(
        together.errors, torch.cat([one.errors for one in alone]), rtol=1e-5, atol=1e-6
    )


def test_each_chosen_expert_runs_once_on_its_pictures_and_the_others_never():
    model = tiny_model()
    seen: dict[int, list[int]] = {}

    def count(column: int):
        return lambda _module, inputs: seen.setdefault(column, []).append(len(inputs[0]))

    for column, expert in enumerate(model.experts):
        expert.register_forward_pre_hook(count(column))
    with torch.inference_mode():
        chosen = model(pictures(5), *centres(5)).router.experts
    expected = {column: [int((chosen == column).sum())] for column in chosen.unique().tolist()}
    assert seen == expected
    assert len(seen) < len(model.experts)


def test_low_precision_gives_nearly_the_same():
    model = tiny_model(
        global_=GlobalConfig(
            count=2, autoencoder=compact_autoencoder(32, code=8), student=STUDENT, scoring="student"
        ),
        router=RouterConfig(hidden=8, top_k=7),
    )
    with torch.inference_mode():
        exact = model(pictures(3), *centres(3))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(pictures(3), *centres(3))
    order = exact.router.experts.argsort(1), rough.router.experts.argsort(1)
    for i in range(3):
        torch.testing.assert_close(
            rough.errors[i, order[1][i]].mean((1, 2)),
            exact.errors[i, order[0][i]].mean((1, 2)),
            rtol=0.1,
            atol=0.1,
        )


def test_training_mode_leaves_the_encoder_frozen():
    fresh = AnomalyMoE(model_config(), VisionTransformer(vit_config()))
    assert fresh.training
    assert isinstance(fresh.encoder, torch.nn.Module)
    assert not fresh.encoder.training
    model = fresh.train()
    assert isinstance(model.encoder, torch.nn.Module)
    assert not model.encoder.training
    assert model.experts.training
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_experts_are_numbered_patch_component_global():
    model = tiny_model()
    assert model.levels == ("patch",) * 3 + ("component",) * 2 + ("global",) * 2
    assert [isinstance(expert, PatchExpert) for expert in model.experts] == [True] * 3 + [False] * 4


def test_level_maps_are_calibrated_gated_and_summed_by_level():
    model = tiny_model()
    router = RouterOutput(torch.zeros(1, 7), torch.tensor([[0, 2, 6]]), torch.tensor([[0.5, 0.3, 0.2]]))
    errors = torch.tensor([4.0, 2.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    offset = torch.tensor([1.0, 0, 0, 0, 0, 0, 3.0]).view(1, 7, 1, 1).repeat(1, 1, 4, 4)
    scale = torch.tensor([2.0, 1, 4.0, 1, 1, 1, 1]).view(1, 7, 1, 1).repeat(1, 1, 4, 4)
    offset[0, 0, 2, 3] = 3.0
    levels = model.level_maps(Detection(router, errors), offset, scale)
    torch.testing.assert_close(levels[0, :, 0, 0], torch.tensor([0.5 * 1.5 + 0.3 * 0.5, 0.0, 0.0]))
    torch.testing.assert_close(levels[0, :, 2, 3], torch.tensor([0.5 * 0.5 + 0.3 * 0.5, 0.0, 0.0]))


def test_masks_from_outside_reach_the_component_experts():
    model = tiny_model(router=RouterConfig(hidden=8, top_k=3, selection="per_level"))
    with torch.inference_mode():
        scene = scene_of(model, pictures(2))
        router = model.router(model.encode(pictures(2)).cls)
        masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
        masks[:, 0, 1:3, 1:3] = True
        errors = model.detect(scene._replace(masks=masks, dilation=3), router).errors[:, 1]
    assert (errors[:, 1:3, 1:3] > 0).all()
    assert (errors * ~masks[:, 0]).sum() == 0


def test_normalise_is_the_encoders_mean_and_std():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 32, 32, 3)
    normalised = tiny_model().normalise(pixels)
    expected = (torch.tensor([0, 128 / 255, 1]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert normalised.shape == (1, 3, 32, 32)
    torch.testing.assert_close(normalised[0, :, 0, 0], expected)


def test_configuration_survives_json():
    config = tiny_model().config
    assert AnomalyMoEConfig.model_validate_json(config.model_dump_json()) == config


def test_state_dict_holds_parameters_only():
    model: AnomalyMoE = tiny_model()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_linear_layers_start_small_and_unbiased():
    torch.manual_seed(0)
    settings = {"patch": PatchConfig(count=1, depth=2, heads=4), "component": ComponentConfig(count=1)}
    model = AnomalyMoE(model_config(**settings), VisionTransformer(vit_config(width=64, heads=4)))
    layers = [
        layer
        for part in (model.router, model.experts)
        for layer in part.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert len(layers) == 2 + (2 + 2 * 4) + 6
    assert not any(layer.bias.any() for layer in layers)
    weights = torch.cat([layer.weight.flatten() for layer in layers])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert weights.abs().max() <= 0.03
