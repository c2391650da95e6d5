"""Random soft masks: where a synthetic defect lies. Every function returns float32 (H, W) in 0..1."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Mask = npt.NDArray[np.float32]
Size = tuple[int, int]


def smooth_noise(rng: np.random.Generator, size: Size, cells: int) -> Mask:
    """Gaussian noise on a grid of about `cells` a side, enlarged smoothly and cut at a random place."""
    height, width = size
    grid = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    enlarged = (width * (cells + 3) // cells, height * (cells + 3) // cells)
    noise = np.asarray(Image.fromarray(grid).resize(enlarged, Image.Resampling.BICUBIC))
    top, left = (int(rng.integers(0, have - need + 1)) for have, need in zip(noise.shape, size, strict=True))
    return noise[top : top + height, left : left + width]


def cloud(rng: np.random.Generator, size: Size) -> Mask:
    """Irregular islands: the peaks of smooth noise, mostly gathered around one point."""
    noise = smooth_noise(rng, size, int(rng.choice([2, 4, 6, 8, 12])))
    mask = noise > np.quantile(noise, rng.uniform(0.85, 0.985))
    if rng.random() < 0.7:
        y, x = np.ogrid[: size[0], : size[1]]
        centre_y, centre_x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        mask &= (y - centre_y) ** 2 + (x - centre_x) ** 2 < (rng.uniform(0.1, 0.4) * size[0]) ** 2
    return mask.astype(np.float32)


def blob(rng: np.random.Generator, size: Size) -> Mask:
    """One ellipse with a rough, more or less soft edge, from a speck to a fifth of the picture."""
    height, width = size
    radius = _log_uniform(rng, 0.012, 0.2) * height
    stretch, turn = _log_uniform(rng, 0.3, 3.3), rng.uniform(0, np.pi)
    long, short = radius * stretch**0.5, radius / stretch**0.5
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - rng.uniform(0, height), x - rng.uniform(0, width)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    depth = (1 - np.hypot(along / long, across / short)) * min(long, short)
    depth += smooth_noise(rng, size, 16) * rng.uniform(0, 0.25) * min(long, short)
    return np.asarray(np.clip(depth / rng.uniform(1, 3) + 0.5, 0, 1), np.float32)


def line(rng: np.random.Generator, size: Size) -> Mask:
    """A thin, more or less bent line, one to three pixels wide, antialiased."""
    height, width = 2 * size[0], 2 * size[1]
    canvas = Image.new("L", (width, height))
    steps = int(rng.integers(4, 16))
    stride, bend = _log_uniform(rng, 0.08, 0.9) * height / steps, rng.uniform(0, 0.5)
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    xs = rng.uniform(0, width) + np.cumsum(np.cos(turns)) * stride
    ys = rng.uniform(0, height) + np.cumsum(np.sin(turns)) * stride
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    ImageDraw.Draw(canvas).line(points, fill=255, width=int(rng.integers(2, 6)), joint="curve")
    halved = np.asarray(canvas.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)
    return (halved / 255).astype(np.float32)


def rectangle(rng: np.random.Generator, size: Size) -> Mask:
    """An upright rectangle of 0.1 to 10 % of the area."""
    height, width = size
    area, aspect = _log_uniform(rng, 0.001, 0.1) * height * width, _log_uniform(rng, 0.2, 5)
    tall = int(np.clip((area * aspect) ** 0.5, 2, 0.8 * height))
    wide = int(np.clip((area / aspect) ** 0.5, 2, 0.8 * width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    mask = np.zeros(size, np.float32)
    mask[top : top + tall, left : left + wide] = 1
    return mask


def band(rng: np.random.Generator, size: Size) -> Mask:
    """A nearly upright or level stripe across the whole picture."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    turn = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15)
    along = x * np.cos(turn) + y * np.sin(turn)
    start = rng.uniform(along.min(), along.max())
    end = start + rng.uniform(0.04, 0.5) * size[0]
    mask = np.clip((along - start) / 2, 0, 1) * np.clip((end - along) / 2, 0, 1)
    return mask.astype(np.float32)


SHAPES: dict[Callable[[np.random.Generator, Size], Mask], float] = {
    blob: 0.3,
    line: 0.25,
    cloud: 0.2,
    rectangle: 0.2,
    band: 0.05,
}


def draw_shape(rng: np.random.Generator, size: Size) -> Mask:
    """One random shape, drawn with the probabilities of `SHAPES`."""
    shape = list(SHAPES)[rng.choice(len(SHAPES), p=list(SHAPES.values()))]
    return shape(rng, size)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
