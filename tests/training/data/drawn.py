"""Pictures and masks on disk, drawn for a test."""

from pathlib import Path

import numpy as np
from PIL import Image

from export.contract.manifest import InputSpec

SPEC = InputSpec(height=8, width=8)
Size = tuple[int, int]


def save(path: Path, pixels: np.ndarray | None = None, size: Size = (16, 12)) -> Path:
    """A picture of `size` (width, height), grey unless pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (90, 100, 110)) if pixels is None else Image.fromarray(pixels)
    image.save(path)
    return path


def save_mask(path: Path, box: tuple[int, int, int, int], size: Size = (16, 12), value: int = 255) -> Path:
    left, top, right, bottom = box
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[top:bottom, left:right] = value
    return save(path, pixels)
