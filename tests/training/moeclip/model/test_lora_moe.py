import pytest
import torch

from training.moeclip.model.config import MoEConfig
from training.moeclip.model.lora_moe import LoRAMoE, mix_in, orthogonal_slices, top_gates

WIDTH = 40


def layer(seed: int = 0, **settings: float) -> LoRAMoE:
    torch.manual_seed(seed)
    return LoRAMoE(WIDTH, MoEConfig.model_validate({"rank": 4, **settings}))


def tokens(seed: int = 1) -> torch.Tensor:
    return 3 * torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_experts_read_orthonormal_directions_of_disjoint_channels() -> None:
    rows = orthogonal_slices(width=43, experts=4, rank=5)
    torch.testing.assert_close(rows @ rows.T, torch.eye(20))
    for n in range(4):
        start, end = n * 10, 43 if n == 3 else (n + 1) * 10
        own = rows[5 * n : 5 * (n + 1)]
        assert own.abs().sum(0).nonzero().flatten().tolist() == list(range(start, end))


def test_a_rank_wider_than_a_slice_is_refused() -> None:
    with pytest.raises(ValueError, match="rank: 11 exceeds the 10 channels of each of 4 experts"):
        orthogonal_slices(width=43, experts=4, rank=11)


def test_gates_are_the_renormalised_largest() -> None:
    gates = top_gates(torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]), 2)
    torch.testing.assert_close(gates, torch.tensor([[0, 4 / 7, 0, 3 / 7], [7 / 8, 1 / 8, 0, 0]]))


def test_gates_of_equal_probabilities_are_exactly_top_k() -> None:
    assert top_gates(torch.full((1, 4), 0.25), 2).tolist() == [[0.5, 0.5, 0, 0]]
    torch.testing.assert_close(top_gates(torch.tensor([[0.2, 0.3, 0.5]]), 3), torch.tensor([[0.2, 0.3, 0.5]]))


def test_gates_let_gradients_through_to_the_chosen() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
    top_gates(logits.softmax(-1), 2)[0, 1].backward()
    gate = torch.tensor(1.0).sigmoid()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, gate * (1 - gate) * torch.tensor([[0.0, 1.0, -1.0]]))


def test_the_mixture_has_the_direction_of_the_adapted_and_the_length_of_the_original() -> None:
    mixed = mix_in(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 0.5]]]), share=0.1)
    torch.testing.assert_close(mixed, torch.tensor([[[2.7, 3.6 + 0.5]]]), atol=1e-5, rtol=0)
    nothing = mix_in(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), share=0.1)
    torch.testing.assert_close(nothing, torch.tensor([[[2.7, 3.6]]]))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_fused_equals_expert_by_expert(top_k: int) -> None:
    moe = layer(top_k=top_k).eval()
    fused, one_by_one = moe(tokens()), moe(tokens(), by_expert=True)
    assert fused.expert_outputs is None
    torch.testing.assert_close(fused.tokens, one_by_one.tokens, atol=1e-5, rtol=1e-5)
    assert torch.equal(fused.probabilities, one_by_one.probabilities)


def test_expert_by_expert_is_the_formula() -> None:
    moe, x = layer(alpha=6.0).eval(), tokens()
    outputs = moe(x, by_expert=True).expert_outputs
    assert outputs is not None
    assert outputs.shape == (2, 9, 4, WIDTH)
    for n in range(4):
        a, b = moe.lora_a[4 * n : 4 * n + 4], moe.lora_b[:, 4 * n : 4 * n + 4]
        torch.testing.assert_close(outputs[:, :, n], 6.0 / 4 * x @ a.T @ b.T)


def test_gradients_of_both_forms_are_equal() -> None:
    gradients = []
    for by_expert in (False, True):
        moe = layer().eval()
        moe(tokens(), by_expert).tokens.square().sum().backward()
        assert moe.lora_b.grad is not None
        assert moe.gate.weight.grad is not None
        gradients.append((moe.lora_b.grad, moe.gate.weight.grad))
    for fused, one_by_one in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, one_by_one, atol=1e-3, rtol=1e-4)
        assert fused.abs().sum() > 0


def test_only_router_and_b_are_trained() -> None:
    moe = layer()
    assert {name for name, _ in moe.named_parameters()} == {"gate.weight", "lora_b"}
    assert "lora_a" in moe.state_dict()


def test_dropout_is_of_training_alone() -> None:
    moe = layer(dropout=0.5)
    assert not torch.equal(moe(tokens()).tokens, moe(tokens()).tokens)
    moe.eval()
    assert torch.equal(moe(tokens()).tokens, moe(tokens()).tokens)


def test_rank_and_top_k_are_checked() -> None:
    with pytest.raises(ValueError, match="top_k must not exceed the number of experts 4, got 5"):
        MoEConfig(top_k=5)
