"""What a category needs before it can be served, measured on normal pictures only.

Centres and prototype come from the training pictures; everything that a decision rests on comes from
pictures that took no part in training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.contract.category import Category, FloatArray
from training.anomalymoe.component import fit_centres
from training.anomalymoe.detector import AnomalyMoE, Scene
from training.anomalymoe.expert import target_patches, top_mean
from training.anomalymoe.head import Head
from training.metrics import auroc
from training.offline.defects import damage
from training.scoring import score_pictures, stack_centres

Pictures = npt.NDArray[np.uint8]

BATCH = 16
OFFSET_QUANTILE = 0.9
SCALE_QUANTILE = 0.999
LEAST_TRUST = 0.05
RADIUS_MARGIN = 1.5  # a picture this much further from the prototype than any held-out one is another product


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the training pictures say about a product: component centres (M, D) and unit prototype (D,)."""

    centres: FloatArray
    prototype: FloatArray


@torch.no_grad()
def learn_product(detector: AnomalyMoE, pictures: Pictures, components: int, seed: int = 0) -> Knowledge:
    """Cluster the patches of a product's normal pictures (n, H, W, 3) and average their cls directions."""
    encoder = detector.encoder
    patches, directions = [], []
    for batch in _batches(pictures):
        encoded = detector.encode(detector.normalise(batch))
        patches.append(target_patches(encoded.features, encoder.width, encoder.prefix_tokens).flatten(0, 1))
        directions.append(torch.nn.functional.normalize(encoded.cls, dim=1))
    centres = fit_centres(torch.cat(patches).numpy(), components, seed)
    prototype = torch.nn.functional.normalize(torch.cat(directions).mean(0), dim=0)
    return Knowledge(centres, prototype.numpy())


@torch.no_grad()
def calibrate(detector: AnomalyMoE, head: Head, name: str, known: Knowledge, held_out: Pictures) -> Category:
    """Error scales, radius and score distribution of a category from held-out pictures (n, H, W, 3)."""
    errors = _all_errors(detector, held_out, known)
    offset, top = np.quantile(errors, [OFFSET_QUANTILE, SCALE_QUANTILE], axis=(0, 2))
    scale = np.maximum(top - offset, 1e-6) / _trust(detector, errors, offset, held_out, known)
    distances = np.concatenate([_distances(detector, batch, known.prototype) for batch in _batches(held_out)])
    unscored = Category(
        name=name,
        centres=known.centres,
        prototype=known.prototype,
        radius=min(2.0, float(RADIUS_MARGIN * distances.max())),
        error_offset=offset.astype(np.float32),
        error_scale=scale.astype(np.float32),
        scores=np.zeros(1, np.float32),
        peaks=np.zeros(1, np.float32),
    )
    return _with_scores(unscored, detector, head, held_out)


def _trust(
    detector: AnomalyMoE, errors: FloatArray, offset: FloatArray, held_out: Pictures, known: Knowledge
) -> FloatArray:
    """How well each expert tells held-out pictures from the same with synthetic defects, (E,) in 0..1.

    An expert that cannot, for this product, would only add noise to those that can.
    """
    damaged = damage(np.random.default_rng(0), held_out)
    clean_nE, damaged_nE = (
        top_mean(torch.from_numpy(one - offset[:, None]).clamp(min=0)).numpy()
        for one in (errors, _all_errors(detector, damaged, known))
    )
    labels = np.repeat([False, True], len(held_out))
    scores = np.concatenate([clean_nE, damaged_nE])
    figures = np.array([auroc(labels, column) for column in scores.T])
    return np.clip(2 * figures - 1, LEAST_TRUST, 1) ** 2


def _with_scores(category: Category, detector: AnomalyMoE, head: Head, held_out: Pictures) -> Category:
    outputs = [score_pictures(detector, head, batch, [category] * len(batch)) for batch in _batches(held_out)]
    scores = torch.cat([output.score for output in outputs]).sort().values
    peaks = torch.cat([output.map.amax((1, 2)) for output in outputs]).sort().values
    return replace(category, scores=scores.numpy(), peaks=peaks.numpy())


def _all_errors(detector: AnomalyMoE, pictures: Pictures, known: Knowledge) -> FloatArray:
    return np.concatenate([_expert_errors(detector, batch, known.centres) for batch in _batches(pictures)])


def _expert_errors(detector: AnomalyMoE, pixels: Tensor, centres: FloatArray) -> FloatArray:
    """Errors (B, E, N) of every expert on every picture, chosen or not."""
    image = detector.normalise(pixels)
    features = detector.encode(image).features
    given = stack_centres([centres] * len(pixels))
    masks = detector.component_masks(features, given.values, given.valid)
    return detector.expert_errors(Scene(image, features, masks)).flatten(2).numpy()


def _distances(detector: AnomalyMoE, pixels: Tensor, prototype: FloatArray) -> FloatArray:
    directions = torch.nn.functional.normalize(detector.encode(detector.normalise(pixels)).cls, dim=1)
    return 1 - directions.numpy() @ prototype


def _batches(pictures: Pictures | Sequence[Tensor]) -> Iterator[Tensor]:
    return (torch.as_tensor(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH))
