import pytest
import torch
from torch import Tensor

from tests.training.anomalymoe.tiny import GRID, WIDTH, randomised, record_outputs
from training.anomalymoe.model.config import PatchConfig
from training.anomalymoe.model.patch import PatchExpert
from training.backbones.transformer import LinearAttention

PREFIX = 3


def expert(**changes: object) -> PatchExpert:
    torch.manual_seed(0)
    settings = {"depth": 4, "heads": 2, "noise_std": 0.2} | changes
    built = PatchExpert(WIDTH, GRID, PREFIX, PatchConfig.model_validate(settings))
    randomised(built)
    return built.eval()


def features(groups: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, PREFIX + GRID[0] * GRID[1], groups * WIDTH, generator=generator)


def test_linear_attention_equals_its_definition():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 4)
    phi_q, phi_k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    weights = phi_q @ phi_k.transpose(2, 3)
    expected = weights / weights.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(LinearAttention(8, 2).mix(q, k, v), expected)


def test_linear_attention_of_queries_far_below_zero_is_finite():
    q, k, v = torch.full((1, 1, 3, 4), -100.0), torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    assert LinearAttention(4, 1).mix(q, k, v).isfinite().all()


def test_error_is_the_cosine_distance_of_the_patch_tokens():
    built, given = expert(), features()
    output = built(given)
    rebuilt = built.reconstruct(given)[:, PREFIX:, 0]
    expected = 1 - torch.nn.functional.cosine_similarity(rebuilt, given[:, PREFIX:], dim=-1)
    torch.testing.assert_close(output.error, expected.reshape(2, *GRID))
    torch.testing.assert_close(output.loss, expected.mean(1))
    torch.testing.assert_close(output.pooled, rebuilt.mean(1))


def test_two_groups_face_the_encoder_the_other_way_round():
    built, given = expert(), features(groups=2)
    outputs = record_outputs(built.decoder)
    rebuilt = built.reconstruct(given)
    assert rebuilt.shape == (2, PREFIX + 16, 2, WIDTH)
    torch.testing.assert_close(rebuilt[:, :, 0], (outputs[3] + outputs[2]) / 2)
    torch.testing.assert_close(rebuilt[:, :, 1], (outputs[1] + outputs[0]) / 2)


def test_blocks_that_do_not_divide_into_the_groups_are_refused():
    with pytest.raises(ValueError, match="depth must be a multiple of the 2 fuse groups, got 3"):
        expert(depth=3)(features(groups=2))


def test_the_corrupted_input_loses_a_fifth_by_default():
    built = expert(noise_std=0.0).train()
    seen: list[Tensor] = []
    built.bottleneck.fc1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    built(features())
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)


def test_noise_and_dropout_act_in_training_only():
    built, given = expert(dropout=0.0), features()
    torch.testing.assert_close(built(given).error, built(given).error, rtol=0, atol=0)
    built.train()
    assert not torch.equal(built(given).error, built(given).error)
    quiet = expert(dropout=0.0, noise_std=0.0)
    torch.testing.assert_close(quiet.train()(given).error, quiet.eval()(given).error, rtol=0, atol=0)
