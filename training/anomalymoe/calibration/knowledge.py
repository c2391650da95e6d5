"""What the training pictures say about a product: component centres, prototype, appearances.

Legend: n pictures, D width, M components, F statistics of appearance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from export.contract.appearance import STATISTICS, appearance
from export.contract.category import FloatArray
from export.contract.preprocess import Pixels
from training.anomalymoe.model.component import fit_centres
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.expert import target_patches
from training.data.store import Pictures, batches
from training.device import on_training_device

BATCH = 16
MOST_PATCHES = 200_000  # of a product, that its components are clusters of


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the training pictures say about a product: component centres (M, D) and unit prototype (D,).

    directions (n, D), appearances (n, F): of each of them, unit cls token and statistics of its pixels.
    """

    centres: FloatArray
    prototype: FloatArray
    directions: FloatArray
    appearances: FloatArray


@torch.no_grad()
def learn_product(
    detector: AnomalyMoE,
    pictures: Pictures,
    components: int,
    seed: int = 0,
    on_batch: Callable[[int], object] = lambda _: None,
) -> Knowledge:
    """Cluster the patches of a product's normal pictures (n, H, W, 3) and average their cls directions.

    on_batch: called with the number of pictures that were read.
    """
    encoder, rng, count = detector.encoder, np.random.default_rng(seed), len(pictures)
    most = min(prod(encoder.grid), -(-MOST_PATCHES // count))  # of a picture
    # Filled in place: small arrays between large ones that come and go would hold many times their memory.
    patches = np.empty((count, most, encoder.width), np.float32)
    units_nD = np.empty((count, encoder.cls_width), np.float32)
    looks = np.empty((count, STATISTICS), np.float32)
    done = 0
    with on_training_device(detector):
        for batch in batches(pictures, BATCH):
            encoded = detector.encode(detector.normalise(torch.from_numpy(batch)))
            own = target_patches(encoded.features, encoder.width, encoder.prefix_tokens)
            rows, done = slice(done, done + len(batch)), done + len(batch)
            patches[rows] = own[:, np.sort(rng.permutation(own.shape[1])[:most])].cpu().numpy()
            units_nD[rows] = torch.nn.functional.normalize(encoded.cls, dim=1).cpu().numpy()
            looks[rows] = appearances(batch)
            on_batch(len(batch))
    centres = fit_centres(patches.reshape(-1, encoder.width), components, seed)
    return Knowledge(centres, mean_direction(units_nD), units_nD, looks)


def mean_direction(units_nD: FloatArray) -> FloatArray:
    """The prototype (D,) of unit cls tokens."""
    mean = units_nD.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def appearances(pixels: Pixels) -> FloatArray:
    """Statistics (n, F) of pictures (n, H, W, 3)."""
    return np.stack([appearance(one) for one in pixels])
