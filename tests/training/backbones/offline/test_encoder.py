"""The offline encoder: shapes, independence of the batch, and what standardising promises."""

import pytest
import torch
from torch import Tensor

from tests.training.tiny_run import ENCODER, GRID, SIZE, normal_pictures
from training.backbones.offline.encoder import (
    APPEARANCE_CHANNELS,
    FEATURE_OFFSET,
    LEAST_STD,
    OfflineEncoder,
    appearance,
)
from training.backbones.offline.pretext import normalise

LEARNED = ENCODER.width
WIDTH = LEARNED + APPEARANCE_CHANNELS
PATCHES = GRID[0] * GRID[1]


@pytest.fixture
def encoder() -> OfflineEncoder:
    torch.manual_seed(0)
    return OfflineEncoder(ENCODER).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Normalised pictures (5, 3, 48, 48)."""
    return normalise(normal_pictures("disc", 5))


def test_shapes(encoder: OfflineEncoder, images: Tensor) -> None:
    features, cls = encoder(images)
    assert encoder.grid == GRID
    assert features.shape == (5, 1 + PATCHES, WIDTH)
    assert cls.shape == (5, WIDTH)
    assert len(encoder.block_outputs(images)) == len(ENCODER.mixers)


def test_a_picture_is_encoded_the_same_alone_and_in_a_batch(encoder: OfflineEncoder, images: Tensor) -> None:
    together = encoder(images)
    for row in range(len(images)):
        alone = encoder(images[row : row + 1])
        torch.testing.assert_close(alone.features[0], together.features[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cls[0], together.cls[row], rtol=0, atol=1e-5)


def test_features_are_the_mean_of_the_fused_blocks(images: Tensor) -> None:
    encoder = OfflineEncoder(ENCODER.model_copy(update={"fused_blocks": (1,)})).eval()
    last = encoder.block_outputs(images)[1]
    torch.testing.assert_close(encoder(images).features[..., :LEARNED], last + FEATURE_OFFSET)
    torch.testing.assert_close(encoder(images).cls[:, :LEARNED], last[:, 0] + FEATURE_OFFSET)


def test_beside_the_learned_features_stands_the_appearance(encoder: OfflineEncoder, images: Tensor) -> None:
    seen = appearance(images)
    assert seen.shape == (5, PATCHES, APPEARANCE_CHANNELS)
    torch.testing.assert_close(encoder(images).features[:, 1:, LEARNED:], seen + FEATURE_OFFSET)
    torch.testing.assert_close(encoder(images).cls[:, LEARNED:], seen.mean(1) + FEATURE_OFFSET)


def test_appearance_is_that_of_the_patch_and_blind_to_the_light_on_the_whole(images: Tensor) -> None:
    torch.testing.assert_close(appearance(2 * images + 0.3), appearance(images), rtol=0, atol=1e-4)
    changed = images.clone()
    changed[:, :, :8, :8] = changed[:, :, :8, :8].flip(2)
    differs = (appearance(changed) - appearance(images)).abs().amax((0, 2)) > 1e-4
    assert differs[0]
    assert not differs[GRID[1] + 1 :].any()


def test_standardised_patches_have_the_offset_as_mean_and_unit_deviation(
    encoder: OfflineEncoder, images: Tensor
) -> None:
    encoder.standardise([images[:2], images[2:]])
    patches = encoder(images).features[:, 1:].flatten(0, 1)
    varied = encoder.feature_std > LEAST_STD
    assert varied[:LEARNED].any()
    torch.testing.assert_close(patches.mean(0), torch.full((WIDTH,), FEATURE_OFFSET), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        patches.std(0, correction=0)[varied], torch.ones(int(varied.sum())), rtol=0, atol=1e-3
    )


def test_standardised_cls_tokens_have_the_offset_as_mean_and_unit_deviation(
    encoder: OfflineEncoder, images: Tensor
) -> None:
    encoder.standardise([images[:2], images[2:]])
    cls = encoder(images).cls
    varied = encoder.cls_std > LEAST_STD
    assert varied.any()
    torch.testing.assert_close(cls.mean(0), torch.full((WIDTH,), FEATURE_OFFSET), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        cls.std(0, correction=0)[varied], torch.ones(int(varied.sum())), rtol=0, atol=1e-3
    )


def test_channels_that_never_vary_stay_finite() -> None:
    config = ENCODER.model_copy(update={"mixers": ("attention",), "fused_blocks": (0,)})
    encoder = OfflineEncoder(config).eval()
    torch.nn.init.zeros_(encoder.position)
    torch.nn.init.zeros_(encoder.stem.get_parameter("15.weight"))
    black = torch.zeros(2, 3, SIZE, SIZE)
    encoder.standardise([black])
    assert (encoder.feature_std == LEAST_STD).all()
    assert encoder(black).features.isfinite().all()


def test_convolution_leaves_the_cls_token_out_and_attention_lets_it_see(images: Tensor) -> None:
    def cls(mixer: str) -> Tensor:
        config = ENCODER.model_validate(ENCODER.model_dump() | {"mixers": (mixer,), "fused_blocks": (0,)})
        return OfflineEncoder(config).eval()(images).cls[:, :LEARNED]

    blind, seeing = cls("convolution"), cls("attention")
    torch.testing.assert_close(blind[0], blind[1])
    assert not torch.allclose(seeing[0], seeing[1], atol=1e-5)


def test_statistics_travel_with_the_weights(encoder: OfflineEncoder, images: Tensor) -> None:
    encoder.standardise([images])
    other = OfflineEncoder(ENCODER).eval()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(images).features, encoder(images).features)
