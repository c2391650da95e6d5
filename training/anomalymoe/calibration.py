"""What a category needs before it can be served, measured on normal pictures only.

Centres and prototype come from the training pictures; everything that a decision rests on comes from
pictures that took no part in training.
Legend: n pictures, E experts, h w patch grid, D width, M components, F statistics of appearance.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.contract.appearance import STATISTICS, Whitening, appearance
from export.contract.category import DISTANCE_POWER, Category, FloatArray
from export.contract.preprocess import Pixels
from training.anomalymoe.model.component import fit_centres
from training.anomalymoe.model.config import Scoring
from training.anomalymoe.model.detector import AnomalyMoE, Detection, Scene
from training.anomalymoe.model.expert import target_patches
from training.anomalymoe.model.head import Head
from training.anomalymoe.model.router import RouterOutput
from training.anomalymoe.scoring import stack_centres
from training.data.store import Pictures, batches, take
from training.device import on_training_device
from training.reach import folds, margin, visual_reach

BATCH = 16
PRIOR = 10  # pictures: with so many, a place counts for itself as much as for the whole picture
OFFSET_QUANTILE = 0.9
SCALE_QUANTILE = 0.999
DEVIATIONS = 3  # an image score of 1: so far above the mean of normal pictures
LEAST_SCALE = 1e-3
SCORE_MARGIN_OF_FEW = 4.0  # as a share of the scores, divided by the number of pictures
SMALLEST_RADIUS = 1e-4  # of cosine distances, which float32 rounds
LEAST_DISTANCE_SCORE = 1e-3
MOST_PATCHES = 200_000  # of a product, that its components are clusters of
MOST_SCALED = 1000  # held-out pictures that scales and units are taken from; the others only add their scores
FEW = 50  # pictures, all of which calibrate, each by what the others say


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the training pictures say about a product: component centres (M, D) and unit prototype (D,).

    directions (n, D), appearances (n, F): of each of them, unit cls token and statistics of its pixels.
    """

    centres: FloatArray
    prototype: FloatArray
    directions: FloatArray
    appearances: FloatArray


class Part(NamedTuple):
    """Pictures to calibrate on, with a detector and a knowledge of the product that others have taught."""

    detector: AnomalyMoE
    known: Knowledge
    pictures: Pictures


class _Seen(NamedTuple):
    """What the model says about pictures: cls (n, V), routing, and errors (n, E, h, w) of every expert.

    looks (n, F): statistics of their pixels.
    """

    cls: Tensor
    looks: Tensor
    router: RouterOutput
    errors: Tensor

    def take(self, rows: Tensor) -> "_Seen":
        router = RouterOutput(*(part[rows] for part in self.router))
        return _Seen(self.cls[rows], self.looks[rows], router, self.errors[rows])


class _Judged(NamedTuple):
    """What is kept of pictures: cls (n, V), looks (n, F), score and peak (n,), chosen experts (n, E)."""

    cls: Tensor
    looks: Tensor
    score: Tensor
    peak: Tensor
    chosen: Tensor


class _Scales(NamedTuple):
    """Offset and scale (E, h, w) of the errors."""

    offset: Tensor
    scale: Tensor


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
            looks[rows] = _appearances(batch)
            on_batch(len(batch))
    centres = fit_centres(patches.reshape(-1, encoder.width), components, seed)
    return Knowledge(centres, _prototype(units_nD), units_nD, looks)


@torch.no_grad()
def calibrate(
    detector: AnomalyMoE,
    head: Head,
    name: str,
    known: Knowledge,
    held_out: Pictures,
    scoring: Scoring = "calibrated",
) -> Category:
    """Error scales, distances and score distribution of a category from held-out pictures (n, H, W, 3)."""
    return _calibrate(head, name, known, [Part(detector, known, held_out)], scoring)


@torch.no_grad()
def calibrate_by_folds(
    detectors: Sequence[AnomalyMoE],
    head: Head,
    name: str,
    known: Knowledge,
    pictures: Pictures,
    scoring: Scoring = "calibrated",
) -> Category:
    """The same from pictures (n, H, W, 3) that trained the detector, none of them held out.

    detectors: for each fold of the pictures (number modulo their count) the detector with experts in closed
    form that were fitted without it. What was trained by gradients has seen all pictures: where such experts
    learn them by heart, scores are too low and the threshold raises the alarm too often, never too seldom.
    """
    folds = np.arange(len(pictures)) % len(detectors)
    parts = [
        Part(detector, known, take(pictures, folds == fold))
        for fold, detector in enumerate(detectors[: len(pictures)])
    ]
    return _calibrate(head, name, known, parts, scoring)


@torch.no_grad()
def cross_calibrate(
    detector: AnomalyMoE,
    head: Head,
    name: str,
    pictures: Pictures,
    components: int,
    scoring: Scoring = "calibrated",
) -> Category:
    """The same from pictures (n, H, W, 3) of which none trained the detector: each by what the others taught.

    n >= 2. Where pictures are few, so all of them calibrate and not just those that could be held out.
    """
    parts = [
        Part(detector, learn_product(detector, take(pictures, others), components), take(pictures, inside))
        for inside, others in folds(len(pictures))
    ]
    return _calibrate(head, name, learn_product(detector, pictures, components), parts, scoring)


def _calibrate(head: Head, name: str, known: Knowledge, parts: Sequence[Part], scoring: Scoring) -> Category:
    detector = parts[0].detector
    sample, rest = _divided(parts)
    seen = _look_at_all(sample)
    unit_E = _units(head, seen) if scoring == "calibrated" else torch.ones(len(detector.experts))
    scales = _fit_scales(seen.errors, scoring, unit_E)
    by_others = (_judge(detector, head, *one) for one in _folds(seen, scoring, unit_E))
    as_served = (_judge(detector, head, one, scales) for one in _look(rest))
    scored = _Judged(*_joined(chain(by_others, as_served), _count(parts)))
    cautious = 1 + SCORE_MARGIN_OF_FEW / len(scored.cls)
    units_nD = torch.nn.functional.normalize(scored.cls, dim=1).numpy()
    reach = _reach(known, units_nD, scored.looks.numpy(), is_cross_fitted=len(parts) > 1)
    scores = scored.score.numpy() * cautious
    distance_score = max(float(scores.max()), LEAST_DISTANCE_SCORE)
    joint = np.maximum(scores, distance_score * reach.distances**DISTANCE_POWER)
    return Category(
        name=name,
        centres=known.centres,
        prototype=known.prototype,
        radius=reach.radius,
        appearance_mean=reach.whitening.mean,
        appearance_whitening=reach.whitening.matrix,
        distance_score=distance_score,
        error_offset=scales.offset.numpy(),
        error_scale=scales.scale.numpy(),
        scores=np.sort(joint).astype(np.float32),
        peaks=np.sort(scored.peak.numpy() * cautious).astype(np.float32),
        chosen=scored.chosen.sum(0).numpy(),
    )


class _Reach(NamedTuple):
    """What distance 1 is, by cls token and appearance, and the distances (n,) of held-out pictures."""

    radius: float
    whitening: Whitening
    distances: FloatArray


def _reach(
    known: Knowledge, units_nD: FloatArray, appearances_nF: FloatArray, *, is_cross_fitted: bool
) -> _Reach:
    """Each held-out picture is measured by all others, those in `known` included."""
    taught = 0 if is_cross_fitted else len(known.directions)  # else it is these very pictures
    all_units = np.concatenate([known.directions[:taught], units_nD])
    all_looks = np.concatenate([known.appearances[:taught], appearances_nF])
    semantic = np.zeros(len(all_units), np.float32)
    for inside, others in folds(len(all_units)):
        semantic[inside] = 1 - all_units[inside] @ _prototype(all_units[others])
    radius = float(np.clip(margin(len(all_units)) * semantic.max(), SMALLEST_RADIUS, 2))
    whitening, visual = visual_reach(all_looks)
    return _Reach(radius, whitening, np.maximum(semantic / radius, visual)[taught:])


def _prototype(units_nD: FloatArray) -> FloatArray:
    mean = units_nD.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _appearances(pixels: Pixels) -> FloatArray:
    return np.stack([appearance(one) for one in pixels])


def _divided(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """A random sample of at most MOST_SCALED pictures, and the others."""
    rng = np.random.default_rng(0)
    sample: list[Part] = []
    rest: list[Part] = []
    for part in parts:
        is_chosen = rng.permutation(len(part.pictures)) < MOST_SCALED // len(parts)
        sample.append(part._replace(pictures=take(part.pictures, is_chosen)))
        rest.append(part._replace(pictures=take(part.pictures, ~is_chosen)))
    return sample, rest


def _look(parts: Iterable[Part]) -> Iterator[_Seen]:
    """What the model says, a batch at a time."""
    for detector, known, pictures in parts:
        with on_training_device(detector):
            for pixels in batches(pictures, BATCH):
                yield _look_at_batch(detector, pixels, known)


def _look_at_all(parts: Sequence[Part]) -> _Seen:
    looks = ((one.cls, one.looks, *one.router, one.errors) for one in _look(parts))
    cls, appearances, *router, errors = _joined(looks, _count(parts))
    return _Seen(cls, appearances, RouterOutput(*router), errors)


def _count(parts: Iterable[Part]) -> int:
    return sum(len(part.pictures) for part in parts)


def _joined(parts: Iterable[Sequence[Tensor]], count: int) -> list[Tensor]:
    """Each column of the parts (rows, ...) as one tensor (count, ...).

    Filled in place: small tensors between large ones that come and go would hold many times their memory.
    """
    columns: list[Tensor] = []
    done = 0
    for batch in parts:
        columns = columns or [part.new_empty(count, *part.shape[1:]) for part in batch]
        rows = slice(done, done := done + len(batch[0]))
        for column, part in zip(columns, batch, strict=True):
            column[rows] = part
    return columns


def _look_at_batch(detector: AnomalyMoE, pixels: Pixels, known: Knowledge) -> _Seen:
    image = detector.normalise(torch.from_numpy(pixels))
    features, cls = detector.encode(image)
    given = stack_centres([known.centres] * len(pixels))
    masks = detector.component_masks(features, given.values.to(image.device), given.valid.to(image.device))
    errors = detector.expert_errors(Scene(image, features, masks))
    router = RouterOutput(*(part.cpu() for part in detector.router(cls)))
    return _Seen(cls.cpu(), torch.from_numpy(_appearances(pixels)), router, errors.cpu())


def _fit_scales(errors_nEhw: Tensor, scoring: Scoring, unit_E: Tensor) -> _Scales:
    """Bring the errors of all experts to one scale, and for `calibrated` scoring of all places.

    paper: the mean error of an expert counts 1. calibrated: common errors count 0, rare ones 1 over the unit;
    a place is compared with itself in other pictures, the less so the fewer there are.
    """
    if scoring == "paper":
        mean_E = errors_nEhw.mean((0, 2, 3)).clamp(min=1e-6)
        return _Scales(torch.zeros_like(errors_nEhw[0]), mean_E[:, None, None].expand_as(errors_nEhw[0]))
    own = len(errors_nEhw) / (len(errors_nEhw) + PRIOR)
    mean_Ehw = errors_nEhw.mean(0)
    mean_Ehw = own * mean_Ehw + (1 - own) * mean_Ehw.mean((1, 2), keepdim=True)
    variance_Ehw = (errors_nEhw - mean_Ehw).square().mean(0)
    spread_Ehw = (variance_Ehw * own + variance_Ehw.mean((1, 2), keepdim=True)).sqrt().clamp(min=1e-6)
    deviations_EN = ((errors_nEhw - mean_Ehw) / spread_Ehw).transpose(0, 1).flatten(1)
    common, rare = np.quantile(deviations_EN.numpy(), [OFFSET_QUANTILE, SCALE_QUANTILE], axis=1)
    span = np.maximum(rare - common, LEAST_SCALE) * unit_E.numpy()
    offset, scale = (
        torch.from_numpy(one.astype(np.float32))[:, None, None] * spread_Ehw for one in (common, span)
    )
    return _Scales(mean_Ehw + offset, scale)


def _units(head: Head, seen: _Seen) -> Tensor:
    """What each expert's image scores of normal pictures hardly reach, (E,).

    1 for an expert that this product's pictures do not choose: it is asked about other pictures only, and
    must not be hushed.
    """
    unit_E = torch.ones(seen.errors.shape[1])
    scores_nE = torch.cat(
        [
            head(((part.errors - scales.offset) / scales.scale).clamp(min=0)).level_scores
            for part, scales in _folds(seen, "calibrated", unit_E)
        ]
    )
    reached_E = scores_nE.mean(0) + DEVIATIONS * scores_nE.std(0, correction=0)
    return torch.where(seen.router.chosen.any(0), reached_E.clamp(min=LEAST_SCALE), unit_E)


def _folds(seen: _Seen, scoring: Scoring, unit_E: Tensor) -> Iterator[tuple[_Seen, _Scales]]:
    """The pictures a batch at a time, each with the scales of others, as for pictures never seen."""
    numbers = torch.arange(len(seen.cls))
    for inside, others in (map(torch.from_numpy, fold) for fold in folds(len(numbers))):
        scales = _fit_scales(seen.errors[others], scoring, unit_E)
        yield from ((seen.take(rows), scales) for rows in numbers[inside].split(BATCH))


def _judge(detector: AnomalyMoE, head: Head, seen: _Seen, scales: _Scales) -> _Judged:
    """Score and peak of the pictures of a batch."""
    device = detector.mean.device
    router = RouterOutput(*(part.to(device) for part in seen.router))
    detection = Detection.chosen(router, seen.errors.to(device))
    expanded = (one.to(device).expand(len(seen.cls), *one.shape) for one in scales)
    output = head(detector.level_maps(detection, *expanded).cpu())
    return _Judged(seen.cls, seen.looks, output.score, output.map.amax((1, 2)), seen.router.chosen)
