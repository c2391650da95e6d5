"""Peak memory of `fit` with many pictures: python -m benchmarks.many_pictures 100000 --folder FOLDER.

Pictures are made: links to 200 files. The encoder is timm's smallest, with weights by chance, since memory is
that of pictures and features; all else is the default, but 5 steps of training.
"""

import argparse
import os
import resource
from pathlib import Path
from time import perf_counter

import numpy as np
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from export.contract.manifest import InputSpec
from training.anomalymoe.fit import fit
from training.anomalymoe.fit_config import FitConfig, preset
from training.backbones.conv import ConvEncoderConfig
from training.runs.progress import progress_on

FILES = 200
ENCODER = "test_efficientnet"


def made(folder: Path, count: int, side: int) -> Path:
    """A data set of so many normal pictures (side, side)."""
    rng, good = np.random.default_rng(0), folder / "data" / "part" / "train" / "good"
    good.mkdir(parents=True)
    for number in range(count):
        path = good / f"{number:06}.png"
        if number < FILES:
            pixels = np.full((side, side, 3), 120, np.uint8)
            pixels[side // 6 : side * 3 // 4, side // 6 + number % 20 : side * 3 // 4] = (90, 120, 200)
            pixels[tuple(rng.integers(side, size=(2, 50)))] = number
            Image.fromarray(pixels).save(path)
        else:
            os.link(good / f"{number % FILES:06}.png", path)
    return folder / "data"


def settings(side: int) -> FitConfig:
    """The default of `fit` with a small encoder."""
    config, grid = preset("efficientnet-lite0"), side // 8
    return FitConfig.model_validate(
        config.model_dump()
        | {
            "encoder": ConvEncoderConfig(model=ENCODER, image_size=(side, side), grid=(grid, grid)),
            "input": InputSpec(height=side, width=side),
            "train": config.train.model_copy(update={"steps": 5}),
        }
    )


def peak_gb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Fit, and print the peaks before and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("--side", type=int, default=256, help="a multiple of 32")
    parser.add_argument("--folder", type=Path, required=True, help="new, for pictures and run")
    options = parser.parse_args()
    data, weights = made(options.folder, options.count, options.side), options.folder / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model(ENCODER).state_dict(), weights)
    before, begun = peak_gb(), perf_counter()
    with progress_on(Console(stderr=True), is_shown=True) as progress:
        fit(data, options.folder / "run", settings(options.side), weights, progress)
    print(f"{options.count} pictures of {options.side}: {peak_gb():.2f} GB at most, {before:.2f} before")
    print(f"{perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
