"""Weights and inputs made from a seed and a name, as the reference figures were."""

import zlib
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def made_weight(seed: int, name: str, shape: Sequence[int]) -> Tensor:
    """The made-up value of one parameter."""
    values = _normal(f"{seed}:{name}", shape)
    if len(shape) >= 2:
        return torch.from_numpy(values / np.float32(np.sqrt(prod(shape[1:]))))
    is_scale = name.endswith(("weight", "gamma"))
    return torch.as_tensor(1 + np.float32(0.1) * values if is_scale else np.float32(0.05) * values)


def made_input(seed: int, what: str, shape: Sequence[int]) -> Tensor:
    """One standard normal input."""
    return torch.from_numpy(_normal(f"{seed}:input:{what}", shape))


def _normal(key: str, shape: Sequence[int]) -> NDArray[np.float32]:
    random = np.random.default_rng(zlib.crc32(key.encode()))
    return np.asarray(random.standard_normal(shape, dtype=np.float32))
