"""The whole model: what is trained, where the experts act, and that pictures do not see each other."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.moeclip.tiny import MODEL, tiny_detector, tokenise
from training.moeclip.model.config import MoECLIPConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP, class_text
from training.moeclip.model.presets import full_size, tiny


def changed(**changes: Any) -> MoECLIP:
    return tiny_detector(MODEL.model_copy(update=changes))


def pictures(count: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 40, 40, 3), generator=random).to(torch.uint8)


@torch.no_grad()
def test_shapes_and_unit_lengths() -> None:
    model = tiny_detector()
    seen = model(model.normalise(pictures()), by_expert=True)
    assert seen.tokens.shape == (3, 4, 25, 24)
    assert seen.summary.shape == seen.embedding.shape == (3, 24)
    torch.testing.assert_close(seen.tokens.norm(dim=-1), torch.ones(3, 4, 25))
    torch.testing.assert_close(seen.embedding.norm(dim=-1), torch.ones(3))
    assert (seen.summary.norm(dim=-1) < 1).all()
    assert [one.probabilities.shape for one in seen.moe] == [(3, 26, 4)] * 2
    assert [one.expert_outputs.shape for one in seen.moe if one.expert_outputs is not None] == [
        (3, 26, 4, 32)
    ] * 2


@torch.no_grad()
def test_one_picture_is_seen_alone_as_in_a_batch_and_in_both_forms() -> None:
    model = tiny_detector()
    images = model.normalise(pictures())
    together, alone, by_expert = model(images), model(images[1:2]), model(images, by_expert=True)
    for name in ("tokens", "summary", "embedding"):
        whole = getattr(together, name)
        torch.testing.assert_close(whole[1:2], getattr(alone, name), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(whole, getattr(by_expert, name), atol=1e-5, rtol=1e-5)


def test_only_the_adapters_are_trained() -> None:
    model = changed(text_adapter=True)
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    assert not any(name.startswith("clip.") for name in trained)
    assert trained == {
        *(f"moe.{i}.{part}" for i in (0, 1) for part in ("gate.weight", "lora_b")),
        *(f"projections.{i}.weight" for i in (0, 1)),
        "image_adapter.norm.weight",
        "image_adapter.norm.bias",
        "image_adapter.depthwise.weight",
        "image_adapter.pointwise.weight",
        "text_adapter.weight",
    }
    assert len(list(model.adapters())) == len(trained)


def test_gradients_reach_every_adapter_and_nothing_else() -> None:
    model = changed(text_adapter=True).train()
    seen = model(model.normalise(pictures()), by_expert=True)
    text = model.read(tokenise(["a disc", "a broken disc"])).features
    (seen.tokens[..., 0].sum() + seen.summary[:, 0].sum() + text[:, 0].sum()).backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == parameter.requires_grad, name


@torch.no_grad()
def test_the_adapted_tokens_go_on_to_the_next_block() -> None:
    """Without experts the first layer's tokens are CLIP's own, and all that follow differ."""
    with_experts, without = tiny_detector(), changed(moe=None)
    without.load_state_dict(
        {name: one for name, one in with_experts.state_dict().items() if not name.startswith("moe.")}
    )
    image = with_experts.normalise(pictures())
    seen, plain = with_experts(image), without(image)
    assert plain.moe == ()
    torch.testing.assert_close(plain.embedding, without.clip.encode_image(image))
    assert not torch.allclose(seen.embedding, plain.embedding, atol=1e-3)
    last_only = changed(layers=(3,))
    own = last_only.state_dict()
    last_only.load_state_dict(
        {name: with_experts.state_dict()[name] if "clip." in name else own[name] for name in own}
    )
    torch.testing.assert_close(last_only(image).embedding, plain.embedding)


@torch.no_grad()
def test_scales_and_layers_are_layer_major() -> None:
    model = tiny_detector()
    image = model.normalise(pictures())
    one_scale = changed(scales=(3,))
    one_scale.load_state_dict(model.state_dict())
    torch.testing.assert_close(one_scale(image).tokens, model(image).tokens[:, 1::2])


@torch.no_grad()
def test_texts_end_at_the_end_token_and_are_averaged_as_directions() -> None:
    model = tiny_detector()
    tokens = tokenise(["a disc", "a broken disc", "the disc with flaw"])
    read = model.read(tokens)
    assert torch.equal(read.features, read.embedding)
    padded = tokens.clone()
    padded[:, 7:] = 5  # beyond the end token nothing is read
    torch.testing.assert_close(model.read(padded).features, read.features)
    text = class_text(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(text, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


@torch.no_grad()
def test_a_text_adapter_replaces_the_projection_of_the_features_alone() -> None:
    model = changed(text_adapter=True)
    tokens = tokenise(["a disc"])
    read, plain = model.read(tokens), model.clip.encode_text(tokens)
    torch.testing.assert_close(read.embedding, plain)
    torch.testing.assert_close(read.features.norm(dim=-1), torch.ones(1))
    assert not torch.allclose(read.features, plain, atol=1e-3)


@torch.no_grad()
def test_pixels_are_normalised_as_clips() -> None:
    model = tiny_detector()
    image = model.normalise(torch.tensor([255, 0, 128], dtype=torch.uint8).expand(1, 40, 40, 3))
    expected = [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258, (128 / 255 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(image[0, :, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, r"layers must ascend within 1\.\.24, got \(\)"),
        ({"layers": (6, 6)}, "layers must ascend"),
        ({"layers": (12, 6)}, "layers must ascend"),
        ({"layers": (0, 6)}, "layers must ascend"),
        ({"layers": (25,)}, "layers must ascend"),
        ({"scales": (1, 2)}, r"scales must be odd and positive, got \(1, 2\)"),
        ({"scales": ()}, "scales must be odd"),
        ({"moe": {"experts": 200}}, "experts x rank must not exceed the width 1024, got 200 x 8"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoECLIPConfig.model_validate(changes)


def test_impossible_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_size must be a multiple of 14, got \(500, 518\)"):
        VisionConfig(image_size=(500, 518))
    with pytest.raises(ValueError, match=r"at least 5 x 5 patches of 14 pixels, got \(518, 56\)"):
        VisionConfig(image_size=(518, 56))
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 1024 and 15"):
        VisionConfig(heads=15)


def test_presets() -> None:
    assert (full_size().maps, full_size().clip.vision.grid) == (12, (37, 37))
    assert MoECLIP(tiny()).grid == (8, 8)
