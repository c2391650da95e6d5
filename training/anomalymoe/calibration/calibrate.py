"""What a category needs before it can be served, measured on normal pictures only.

Centres and prototype come from the training pictures; everything that a decision rests on comes from
pictures that took no part in training.
Legend: n pictures, E experts, D width, V width of the cls token, F statistics of appearance.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.contract.appearance import Whitening
from export.contract.category import DISTANCE_POWER, Category, FloatArray
from training.anomalymoe.calibration.knowledge import Knowledge, learn_product, mean_direction
from training.anomalymoe.calibration.outputs import (
    Outputs,
    Part,
    all_outputs,
    joined,
    outputs_by_batch,
    picture_count,
)
from training.anomalymoe.calibration.scales import Scales, cross_fitted, expert_units, fit_scales
from training.anomalymoe.model.config import Scoring
from training.anomalymoe.model.detector import AnomalyMoE, Detection
from training.anomalymoe.model.head import Head
from training.anomalymoe.model.router import RouterOutput
from training.data.store import Pictures, take
from training.reach import folds, margin, visual_reach

SCORE_MARGIN_OF_FEW = 4.0  # as a share of the scores, divided by the number of pictures
SMALLEST_RADIUS = 1e-4  # of cosine distances, which float32 rounds
LEAST_DISTANCE_SCORE = 1e-3
MOST_SCALED = 1000  # held-out pictures that scales and units are taken from; the others only add their scores
FEW = 50  # pictures, all of which calibrate, each by what the others say


class _Judged(NamedTuple):
    """What is kept of pictures: cls (n, V), looks (n, F), score and peak (n,), chosen experts (n, E)."""

    cls: Tensor
    looks: Tensor
    score: Tensor
    peak: Tensor
    chosen: Tensor


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
    seen = all_outputs(sample)
    unit_E = expert_units(head, seen) if scoring == "calibrated" else torch.ones(len(detector.experts))
    scales = fit_scales(seen.errors, scoring, unit_E)
    by_others = (_judge(detector, head, *one) for one in cross_fitted(seen, scoring, unit_E))
    as_served = (_judge(detector, head, one, scales) for one in outputs_by_batch(rest))
    scored = _Judged(*joined(chain(by_others, as_served), picture_count(parts)))
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
        semantic[inside] = 1 - all_units[inside] @ mean_direction(all_units[others])
    radius = float(np.clip(margin(len(all_units)) * semantic.max(), SMALLEST_RADIUS, 2))
    whitening, visual = visual_reach(all_looks)
    return _Reach(radius, whitening, np.maximum(semantic / radius, visual)[taught:])


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


def _judge(detector: AnomalyMoE, head: Head, seen: Outputs, scales: Scales) -> _Judged:
    """Score and peak of the pictures of a batch."""
    device = detector.mean.device
    router = RouterOutput(*(part.to(device) for part in seen.router))
    detection = Detection.chosen(router, seen.errors.to(device))
    expanded = (one.to(device).expand(len(seen.cls), *one.shape) for one in scales)
    output = head(detector.level_maps(detection, *expanded).cpu())
    return _Judged(seen.cls, seen.looks, output.score, output.map.amax((1, 2)), seen.router.chosen)
