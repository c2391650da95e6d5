"""What belongs into the graphs: each step in a graph of its own against the same outside, as a ratio.

python -m benchmarks.placement
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor, nn

from export.formats.onnx import export_onnx
from export.graphs.part import Part
from service.inference.backends.onnx import OnnxGraph
from training.anomalymoe.model.head import Head

BATCH, SIDE, GRID, MAP, ROUNDS = 8, 192, 24, 256, 15
MEAN, STD = 0.5, 0.25


class Normalise(nn.Module):
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        return (image.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


class Smooth(nn.Module):
    """Upsampled and blurred: (B, 3, h, w) -> (B, 3, Hm, Wm)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head((MAP, MAP), (GRID, GRID))

    def forward(self, levels: Tensor) -> Tensor:
        return self.head.rows @ levels @ self.head.columns


class TopMean(nn.Module):
    """Mean of the top 1 % of the pixels: (B, 3, Hm, Wm) -> (B, 3)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(-2).topk(MAP * MAP // 100, dim=-1, sorted=False).values.mean(-1)


def outside_normalise(image: np.ndarray) -> np.ndarray:
    scaled = (image.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def outside_smooth(levels: np.ndarray) -> np.ndarray:
    upsampled = zoom(levels, (1, 1, MAP / GRID, MAP / GRID), order=1)
    return gaussian_filter(upsampled, (0, 0, 4, 4), radius=(0, 0, 2, 2))


def outside_top_mean(maps: np.ndarray) -> np.ndarray:
    count = MAP * MAP // 100
    flat = maps.reshape(*maps.shape[:2], -1)
    return np.partition(flat, -count, axis=-1)[..., -count:].mean(-1)


def main() -> None:
    """Print one line a step: time in the graph over time outside."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
    levels = random.random((BATCH, 3, GRID, GRID), np.float32)
    maps = random.random((BATCH, 3, MAP, MAP), np.float32)
    steps: dict[str, tuple[nn.Module, np.ndarray, Callable[[np.ndarray], Any]]] = {
        "cast and normalise": (Normalise(), image, outside_normalise),
        "upsample and blur": (Smooth(), levels, outside_smooth),
        "mean of the top 1 %": (TopMean(), maps, outside_top_mean),
    }
    for name, (module, value, outside) in steps.items():
        part = Part("step", module.eval(), ("x",), ("y",), axes={"x": ("B",), "y": ("B",)})
        graph = export_onnx(part, {"x": torch.from_numpy(value)})
        runs = OnnxGraph(graph.files[graph.spec.path], "cpu", 1)
        inside = partial(runs.run, {"x": value})
        ratios = [_spent(inside) / _spent(partial(outside, value)) for _ in range(ROUNDS)]
        print(f"{name}: {median(ratios):.2f}")


def _spent(function: Callable[[], Any]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    main()
