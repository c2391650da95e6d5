import pytest
import torch
from pydantic import ValidationError
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch.nn import functional as F

from tests.training.anomalymoe.tiny import (
    dinov2_layout,
    pictures,
    randomised,
    record_outputs,
    vit_config,
)
from training.anomalymoe.weights.pretrained import ENCODERS, load_dinov2, load_pretrained
from training.backbones.vit import VisionTransformer
from training.runs.foreign import WeightsError


def timm_transformer(registers: int) -> TimmTransformer:
    """timm's DINOv2 architecture on its own position grid, where no resampling is needed."""
    torch.manual_seed(0)
    built = TimmTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=4,
        num_heads=2,
        init_values=1.0,
        num_classes=0,
        reg_tokens=registers,
        no_embed_class=registers > 0,
    )
    randomised(built)
    return built.eval()


@pytest.mark.parametrize("registers", [0, 4])
def test_equals_timm_with_its_weights(registers):
    reference = timm_transformer(registers)
    encoder = VisionTransformer(vit_config(registers=registers, position_grid=4)).eval()
    load_dinov2(encoder, reference.state_dict())
    tokens = record_outputs(reference.blocks)
    with torch.inference_mode():
        output = encoder(pictures(2))
        reference(pictures(2))
    torch.testing.assert_close(output.features, (tokens[1] + tokens[2]) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.cls, tokens[3][:, 0], rtol=1e-4, atol=1e-5)


def test_dinov2_layout_with_registers_keeps_the_position_of_cls():
    encoder = VisionTransformer(vit_config())
    randomised(encoder)
    restored = VisionTransformer(vit_config())
    load_dinov2(restored, dinov2_layout(encoder))
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(restored.state_dict().values(), encoder.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norm.bias", "1 missing: norm.bias"),
        ("register_tokens", "1 missing: register_tokens"),
        ("blocks.3.ls2.gamma", "1 missing: blocks.3.ls2.gamma"),
    ],
)
def test_a_missing_tensor_is_named_as_in_the_file(name, message):
    state = dinov2_layout(VisionTransformer(vit_config()))
    del state[name]
    with pytest.raises(WeightsError, match=f"^{message}$"):
        load_dinov2(VisionTransformer(vit_config()), state)


def test_fuse_groups_lie_side_by_side():
    one = VisionTransformer(vit_config()).eval()
    randomised(one)
    two = VisionTransformer(vit_config(fuse_groups=((1,), (2,)))).eval()
    two.load_state_dict(one.state_dict())
    features = two(pictures(1)).features
    assert features.shape == (1, 1 + 2 + 16, 32)
    torch.testing.assert_close((features[..., :16] + features[..., 16:]) / 2, one(pictures(1)).features)


def test_positions_are_resampled_with_the_dinov2_offset():
    encoder = VisionTransformer(vit_config(position_grid=5))
    randomised(encoder)
    with torch.no_grad():
        for parameter in encoder.patch_embed.parameters():
            parameter.zero_()
        tokens = encoder._embed(pictures(1))[0, 3:]
        grid = encoder.pos_embed[:, 1:].transpose(1, 2).reshape(1, 16, 5, 5)
        expected = F.interpolate(grid, scale_factor=4.1 / 5, mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(tokens, expected)


def test_cls_has_a_position_and_registers_have_none():
    encoder = VisionTransformer(vit_config())
    randomised(encoder)
    tokens = encoder._embed(pictures(1))[0]
    assert encoder.register_tokens is not None
    torch.testing.assert_close(tokens[0], encoder.cls_token[0, 0] + encoder.pos_embed[0, 0])
    torch.testing.assert_close(tokens[1:3], encoder.register_tokens[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (33, 32)}, "image_size must be a multiple of 8"),
        ({"fuse_groups": ((4,),)}, "fuse_groups must name blocks 0..3"),
        ({"fuse_groups": ()}, "fuse_groups must name at least one block"),
        ({"heads": 3}, "width must be a multiple of heads, got 16 and 3"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        vit_config(**change)


def test_unknown_pretrained_names_list_the_known_ones():
    with pytest.raises(WeightsError, match=", ".join(ENCODERS)):
        load_pretrained(VisionTransformer(vit_config()), "dinov9")
