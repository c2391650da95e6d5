"""Statistics of a picture's pixels that tell dimmed, blurred, noisy and foreign pictures from a product's.

They need no backbone, so that what a backbone has learnt to overlook is noticed as well.
Legend: n pictures, F statistics, H W pixels.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.contract.preprocess import Pixels

FloatArray = npt.NDArray[np.float32]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
OCTAVES = 4
STATISTICS = 3 * len(QUANTILES) + 3 * OCTAVES + 1 + 2
SHRINKAGE = 0.02  # towards equal variances, so that few pictures, too, have a covariance
SMALLEST_DEVIATION = 0.02  # of a statistic: what encoding a picture anew may change


class Whitening(NamedTuple):
    """Mean (F,) and matrix (F, F) that bring a product's statistics to mean 0 and unit covariance."""

    mean: FloatArray
    matrix: FloatArray

    def distance(self, appearance: FloatArray) -> FloatArray:
        """Mahalanobis distance of statistics (..., F) to the product's mean, (...)."""
        return np.linalg.norm((appearance - self.mean) @ self.matrix, axis=-1).astype(np.float32)


def appearance(pixels: Pixels) -> FloatArray:
    """Logarithms of brightness quantiles, gradients by octave and colourfulness of a picture, (F,).

    pixels: uint8 (H, W, 3) at model size.
    """
    sparse = pixels[::2, ::2].astype(np.int16)
    red, green, blue = sparse[..., 0], sparse[..., 1], sparse[..., 2]
    colours = np.array([np.abs(red - green).mean(), np.abs(green - blue).mean()])
    return np.concatenate(
        [
            3 * np.log(_quantiles(sparse) + 8),
            4 * np.log(_gradients(pixels[..., 1].astype(np.float32)) + 0.5),
            2 * np.log(colours + 1),
        ]
    ).astype(np.float32)


def fit_whitening(appearances: FloatArray) -> Whitening:
    """The whitening of a product by the statistics (n, F) of its normal pictures, n >= 1."""
    mean = appearances.mean(0)
    centred = (appearances - mean).astype(np.float64)
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    shrunk = SHRINKAGE * np.trace(covariance) / len(mean) + SMALLEST_DEVIATION**2
    variances, axes = np.linalg.eigh(covariance + shrunk * np.eye(len(mean)))
    return Whitening(mean.astype(np.float32), (axes / np.sqrt(variances)).astype(np.float32))


def _quantiles(values: npt.NDArray[np.int16]) -> FloatArray:
    """Those of each channel of (h, w, 3), one channel after the other."""
    wanted = np.array(QUANTILES) * (values.size // 3)
    sums = [np.cumsum(np.bincount(values[..., channel].ravel(), minlength=256)) for channel in range(3)]
    return np.concatenate([np.searchsorted(one, wanted) for one in sums]).astype(np.float32)


def _gradients(grey: FloatArray) -> FloatArray:
    """Mean and root mean square of differences between neighbours of (H, W), in each octave and at the finest
    also between these differences, which noise makes large.
    """
    found: list[float] = []
    for octave in range(OCTAVES):
        if min(grey.shape) < 3:  # too small for a further octave
            return np.array([*found, *[0.0] * (3 * OCTAVES + 1 - len(found))], np.float32)
        across, down = grey[:, 1:] - grey[:, :-1], grey[1:] - grey[:-1]
        squares = float(np.vdot(across, across)) / across.size
        finest = [np.abs(across[:, 1:] - across[:, :-1]).mean()] if octave == 0 else []
        found += [np.abs(across, out=across).mean(), np.abs(down, out=down).mean(), squares**0.5, *finest]
        even = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
        rows = even[::2] + even[1::2]
        grey = ((rows[:, ::2] + rows[:, 1::2]) / 4).astype(np.float32)
    return np.array(found, np.float32)
