import torch
from torch import nn

from training.runs.half_precision import round_to_half


def test_weights_become_half_precision_numbers_near_by() -> None:
    module = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    round_to_half(module)
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, tensor.half().to(tensor.dtype))
        torch.testing.assert_close(tensor, before[name], rtol=1e-3, atol=1e-6)
    assert not torch.equal(module.state_dict()["0.weight"], before["0.weight"])
